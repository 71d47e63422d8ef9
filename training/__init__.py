"""What trainings share: schedule, checkpoints, seeds, the Lightning command; imports data/ and evaluation/."""
