"""Maps that cut an image into segments: made once, kept beside the data."""
