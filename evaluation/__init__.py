"""From panoptic maps to scores and pictures; imports data/."""
