"""The loop over cycles and stages, and what is assembled for it."""
