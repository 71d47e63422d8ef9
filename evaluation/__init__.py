"""From panoptic maps to scores and images; imports data/."""
