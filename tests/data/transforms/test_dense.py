import numpy as np
import pytest
from PIL import Image

from al_lab.core.errors import DataError
from al_lab.data.transforms.dense import effective_labels, resize_image, resize_label


def test_labels_keep_the_columns_of_the_fact_sheet():
    """Density Matters fact sheet, T10: note 11 where exact arithmetic has 12."""
    columns = np.tile(np.arange(16, dtype=np.uint8), (3, 1))
    kept = [0, 2, 4, 5, 7, 8, 10, 11, 13, 15]
    assert resize_label(columns, (3, 10)).tolist() == [kept] * 3
    assert resize_label(columns.T.copy(), (10, 3)).tolist() == [[k] * 3 for k in kept]


def test_five_of_eight_columns_survive_the_published_resize():
    columns = np.tile((np.arange(2048) % 8).astype(np.uint8), (2, 1))
    kept = resize_label(columns, (2, 1280))[0].reshape(256, 5)
    assert {tuple(group) for group in kept} <= {(0, 2, 4, 5, 7), (0, 2, 3, 5, 7)}


def test_a_mask_loses_the_pixels_its_label_loses():
    """The released code resizes label and mask of bought pixels as the two channels of one image."""
    rng = np.random.default_rng(0)
    label, mask = rng.integers(0, 19, (48, 96), dtype=np.uint8), rng.random((48, 96)) < 0.1
    stacked = Image.merge("LA", [Image.fromarray(label), Image.fromarray(mask.astype(np.uint8))])
    both = np.asarray(stacked.resize((60, 30), Image.Resampling.NEAREST))
    small = resize_label(mask, (30, 60))
    assert small.dtype == bool
    assert np.array_equal(resize_label(label, (30, 60)), both[..., 0])
    assert np.array_equal(small, both[..., 1] > 0)
    bought = np.where(mask, label, 255).astype(np.uint8)
    assert effective_labels(bought, (30, 60)) == effective_labels(mask, (30, 60)) == int(both[..., 1].sum())
    assert effective_labels(bought, None) == int(mask.sum()) > effective_labels(bought, (30, 60)) > 0


def test_images_are_resized_bicubically_and_antialiased():
    stripes = np.zeros((8, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    small = resize_image(stripes, (4, 16))
    assert small.shape == (4, 16, 3)
    # nearest or bilinear without antialiasing would show stripes
    assert np.abs(small[:, 2:-2].astype(int) - 100).max() <= 2
    edge = np.zeros((4, 16, 3), np.uint8)
    edge[:, 8:] = 100
    assert resize_image(edge, (8, 32)).max() > 100  # bicubic overshoots
    assert resize_image(stripes, None) is stripes


@pytest.mark.parametrize("wrong", [np.zeros((4, 4), np.int64), np.zeros((4, 4, 3), np.uint8)])
def test_other_label_types_are_refused(wrong):
    with pytest.raises(DataError, match="uint8 or bool label map"):
        resize_label(wrong, (2, 2))


def test_other_image_types_are_refused():
    with pytest.raises(DataError, match=r"\(H, W, 3\) uint8 image, got float32"):
        resize_image(np.zeros((4, 4, 3), np.float32), (2, 2))
