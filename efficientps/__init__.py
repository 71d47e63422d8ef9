"""Stage 2, the semantic model of EfficientPS."""
