"""Datasets: one file a kind."""
