"""Data sets on disk, one file a layout: how it is read and what is derived from it."""
