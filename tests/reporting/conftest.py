"""Run folders made without training."""

from tests.run_folders import family, images, maker, unsynced

__all__ = ["family", "images", "maker", "unsynced"]
