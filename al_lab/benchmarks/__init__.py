"""Ours and what one would use instead, side by side in one process."""
