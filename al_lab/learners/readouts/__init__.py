"""What strategies ask of a detector beyond its detections; one file a kind, found by the word of `Strategy.needs`."""
