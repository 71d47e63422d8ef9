"""What labelling tools and other data sets export, one file a format, and how it becomes a panoptic data set."""
