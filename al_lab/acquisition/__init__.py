"""Pure selection mathematics."""
