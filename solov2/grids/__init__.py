"""Which objects SOLOv2's grids cannot keep apart, and grids that can."""
