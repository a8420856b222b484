"""What is read from a detector's scored boxes, before a strategy sees an image."""
