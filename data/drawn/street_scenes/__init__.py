"""How a street is drawn: camera and canvas, plan, what stands and moves in it. streets.py draws with it; Snapshots uses parts."""
