"""Detectors of other libraries, as a `Detector`: their networks and losses, our loaders, campaigns and strategies."""
