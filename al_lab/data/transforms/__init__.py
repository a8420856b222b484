"""From decoded images to a network's input."""
