"""The first half hour on a card: what has to be seen before anything else is believed (scripts/gpu_check.py)."""
