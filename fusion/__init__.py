"""From two predictions to one panoptic map; imports data/."""
