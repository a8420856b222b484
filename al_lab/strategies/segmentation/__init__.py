"""Strategies for semantic segmentation."""
