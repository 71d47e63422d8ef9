"""Files, errors, threads, processes, progress and devices: knows no label and no image."""
