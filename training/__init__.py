"""What every Lightning training of this project shares: schedule, checkpoints, command; imports data/ and evaluation/."""
