"""Strategies for object detection."""
