"""Small trees of files, and run folders."""

from tests.run_folders import family, images, maker, unsynced
from tests.trees import coco_content, coco_tree, voc_tree, write_image, write_xml

__all__ = ["coco_content", "coco_tree", "family", "images", "maker", "unsynced", "voc_tree", "write_image", "write_xml"]
