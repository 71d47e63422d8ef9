"""Panoptic FPN, on Cityscapes, on COCO, and on data sets in COCO's panoptic form."""
