"""Annotation and image files: what comes from a file is never trusted."""
