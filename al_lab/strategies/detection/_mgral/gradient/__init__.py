"""MGRAL without rows: what an image's labels are expected to change, by gradients alone."""
