"""Batches: who is in them, and how they are put together."""
