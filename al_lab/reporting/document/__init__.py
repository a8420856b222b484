"""Sections, tables and pages as data, and their HTML."""
