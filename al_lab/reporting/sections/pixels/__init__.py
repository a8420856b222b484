"""Sections of a report about pixels: every metric, and densities."""
