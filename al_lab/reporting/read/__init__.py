"""Run folders, read as they are."""
