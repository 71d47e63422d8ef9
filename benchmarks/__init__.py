"""What the published code costs and what ours does: one module a step, run by scripts/benchmark.py."""
