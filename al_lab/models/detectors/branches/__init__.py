"""Heads beside a detector's own, built from its configuration and saved with its weights; one file a branch."""
