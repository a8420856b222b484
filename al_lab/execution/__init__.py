"""Running many independent jobs."""
