from pathlib import Path

import numpy as np
import pytest

from al_lab.core.errors import DataError
from al_lab.core.types import Annotation
from al_lab.data.datasets.detection import DetectionDataset


class Minimal(DetectionDataset):
    """All that a new format has to say."""

    def __init__(self, root, pool=("a", "b"), **more):
        super().__init__("minimal", ["cat"], pool, **more)
        self.root = Path(root)

    def image_path(self, sample_id):
        return self.root / f"{sample_id}.jpg"

    def _parse(self, sample_id):
        return Annotation.make([[1, 2, 3, 4]], [0]), ()


def test_two_methods_make_a_dataset(tmp_path, write_image):
    for name in "ab":
        write_image(tmp_path / f"{name}.jpg")
    dataset = Minimal(tmp_path, pool=("b", "a"))
    assert dataset.pool_ids == ("a", "b")
    assert dataset.task == "detection"
    assert dataset.num_classes == 1
    assert [f.message for f in dataset.verify()] == ["no test images: evaluation will be skipped"]
    np.testing.assert_array_equal(dataset.truth("a").boxes_xyxy, [[1, 2, 3, 4]])
    assert dataset.size_hw("a") == (40, 60)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": ()}, "expected at least one image in the pool, got none"),
        ({"pool": ("a", "a")}, "expected sample ids that occur once, got 'a' twice"),
        ({"val_ids": ("c",), "test_ids": ("c",)}, "expected no image in both val and test, got 1 shared, first 'c'"),
    ],
)
def test_ids_have_one_role(tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        Minimal(tmp_path, **options)


def test_metrics_can_be_chosen(tmp_path):
    assert Minimal(tmp_path).metrics == ("voc_area_ap50",)
    assert Minimal(tmp_path, metrics=["coco_ap"]).metrics == ("coco_ap",)
