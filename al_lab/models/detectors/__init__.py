"""Detectors and the geometry of their boxes."""
