"""Small trees of files, and run folders."""

import logging

import pytest

from tests.run_folders import family, images, maker, unsynced
from tests.trees import coco_content, coco_tree, voc_tree, write_image, write_xml

__all__ = ["coco_content", "coco_tree", "family", "images", "maker", "unsynced", "voc_tree", "write_image", "write_xml"]


@pytest.fixture(autouse=True)
def _own_log():
    """A command shows the log on the screen that its test captures; the next test has another."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
