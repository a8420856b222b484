"""MGRAL, stage by stage."""
