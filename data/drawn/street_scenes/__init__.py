"""How Streets looks: camera and canvas, plan of a street, what stands and moves in it. Used by data/drawn/streets.py alone."""
