"""Selections where the features are."""
