"""Segments of an image: means over them, edges in them, how many of a kind are bought."""
