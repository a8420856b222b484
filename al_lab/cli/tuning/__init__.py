"""Commands that look for settings on a run's own model."""
