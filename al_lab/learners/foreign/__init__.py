"""Models that are trained elsewhere: by a command, or by people who hand in predictions."""
