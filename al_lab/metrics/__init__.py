"""VOC AP, COCO AP, mIoU."""
