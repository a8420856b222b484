"""Choosing images once, from what any detector said of them: no campaign, no training."""
