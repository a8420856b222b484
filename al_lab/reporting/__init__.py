"""Trackers, figures, tables, pages."""
