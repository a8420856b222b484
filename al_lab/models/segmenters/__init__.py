"""Segmenters and their branches."""
