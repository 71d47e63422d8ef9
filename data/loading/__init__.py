"""What a training reads: augmentation, samplers and the data module."""
