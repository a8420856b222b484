"""Figures, each drawn from plain numbers."""
