"""Small trees of files."""

from tests.trees import coco_content, coco_tree, voc_tree, write_image, write_xml

__all__ = ["coco_content", "coco_tree", "voc_tree", "write_image", "write_xml"]
