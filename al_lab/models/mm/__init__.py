"""Networks of mmdetection and mmsegmentation."""
