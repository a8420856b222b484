"""What a cycle does, stage by stage."""
