"""The embedded data sets, drawn from a seed: Streets (Cityscapes layout) and Snapshots (COCO layout)."""
