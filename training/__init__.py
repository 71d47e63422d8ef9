"""What trainings share: schedule, checkpoints, seeds, precision, the Lightning command; imports data/ and evaluation/."""
