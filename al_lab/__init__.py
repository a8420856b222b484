"""Active learning for object detection and semantic segmentation."""

__version__ = "0.1.0"
