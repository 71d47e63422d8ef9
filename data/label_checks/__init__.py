"""What is broken and what is suspicious in panoptic labels: all of it, where the readers of data/ stop at the first fault."""
