"""Canny's edges."""

import numpy as np
import pytest

from al_lab.acquisition.segments.edges import canny, edge_map
from al_lab.data.generated.streets_draw import draw_street


@pytest.mark.parametrize("kind", ["street", "noise", "blobs"])
def test_equals_opencv(kind: str) -> None:
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    image = (
        draw_street(0, "target", "train", 1, (96, 160)).image
        if kind == "street"
        else rng.integers(0, 256, (61, 83, 3)).astype(np.uint8)
    )
    if kind == "blobs":
        image = cv2.GaussianBlur(image, (0, 0), 2.0)
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    theirs = cv2.Canny(cv2.GaussianBlur(gray, (5, 5), 0), 50, 150)
    assert np.array_equal(edge_map(image), theirs > 0) and (kind == "blobs" or theirs.any())


def test_a_step_is_one_line_and_a_weak_edge_alone_is_none() -> None:
    gray = np.zeros((9, 12), np.uint8)
    gray[:, 6:] = 200
    found = canny(gray, 50, 150)
    assert found.sum() == 9 and len(np.unique(np.nonzero(found)[1])) == 1
    assert not canny(gray // 8, 50, 150).any()
