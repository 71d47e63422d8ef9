"""Models that scripts/export.py has written, run by onnxruntime; nothing here needs torch."""
