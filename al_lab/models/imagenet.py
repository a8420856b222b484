"""Channel statistics of ImageNet, for every network that was pretrained there."""

#: RGB on the 0..255 scale.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
