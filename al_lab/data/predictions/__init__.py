"""What any detector said of images, read from the files that detectors write."""
