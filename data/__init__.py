"""What a label means and how it is stored; imports nothing else of this repository."""
