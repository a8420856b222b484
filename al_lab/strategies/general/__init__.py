"""Strategies that serve several tasks, and their shared parts."""
