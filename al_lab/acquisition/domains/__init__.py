"""Images and regions of the target, compared with the source."""
