"""Mask R-CNN for every network with a pyramid, and its detections as masks; imports data/."""
