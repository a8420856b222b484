"""Borders of classes against loops over all pixels and all pairs."""

import numpy as np
import pytest

from al_lab.metrics.surfaces import boundary_counts, hausdorff95

VOID = 255


def eroded(mask: np.ndarray, neighbors: list[tuple[int, int]]) -> np.ndarray:
    out = mask.copy()
    for y, x in np.argwhere(mask):
        for dy, dx in neighbors:
            i, j = y + dy, x + dx
            if not (0 <= i < mask.shape[0] and 0 <= j < mask.shape[1] and mask[i, j]):
                out[y, x] = False
    return out


SQUARE = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
CROSS = [(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)]


def slow_rim(mask: np.ndarray, times: int) -> np.ndarray:
    inner = mask
    for _ in range(times):
        inner = eroded(inner, SQUARE)
    return mask & ~inner


def slow_hd95(true: np.ndarray, predicted: np.ndarray) -> float:
    a, b = ([tuple(p) for p in np.argwhere(m & ~eroded(m, CROSS))] for m in (true, predicted))
    sides = []
    for these, those in ((a, b), (b, a)):
        nearest = sorted(min(((y - i) ** 2 + (x - j) ** 2) ** 0.5 for i, j in those) for y, x in these)
        place = 0.95 * (len(nearest) - 1)
        low = int(place)
        high = min(low + 1, len(nearest) - 1)
        sides.append(nearest[low] + (place - low) * (nearest[high] - nearest[low]))
    return max(sides)


def blobs(seed: int, size=(19, 26)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    out = np.zeros(size, np.uint8)
    for c in (1, 2, 1):
        y, x = rng.integers(0, size[0]), rng.integers(0, size[1])
        out[max(0, y - 6) : y + 5, max(0, x - 7) : x + 6] = c
    return out


@pytest.mark.parametrize("seed", range(4))
def test_both_are_what_loops_find(seed):
    truth, predicted = blobs(seed), blobs(seed + 10)
    truth[2:5, 3:9] = VOID
    ratio = 0.1  # of a diagonal of 32.2: 3 pixels
    counts, far = boundary_counts(truth, predicted, 4, VOID, ratio), hausdorff95(truth, predicted, 4, VOID)
    for c in range(3):
        true, found = truth == c, (predicted == c) & (truth != VOID)
        rims = [slow_rim(mask, 3) for mask in (true, found)]
        assert counts[c].tolist() == [(rims[0] & rims[1]).sum(), (rims[0] | rims[1]).sum()]
        if true.any() and found.any():
            assert far[c] == pytest.approx(slow_hd95(true, found), abs=1e-12)
    assert counts[3].tolist() == [0, 0] and np.isnan(far[3])


def test_a_square_moved_by_three_pixels():
    truth, predicted = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)
    truth[10:20, 10:20], predicted[10:20, 13:23] = 1, 1
    counts, far = boundary_counts(truth, predicted, 2, VOID, 0.02), hausdorff95(truth, predicted, 2, VOID)
    # one pixel wide (0.02 of 56.6 is 1.1): 36 pixels each; the 7 + 7 of top and bottom, and no column, are in both
    assert counts[1].tolist() == [14, 58]
    assert far[1] == 3
    same = boundary_counts(truth, truth, 2, VOID)
    assert (same[:, 0] == same[:, 1]).all() and (hausdorff95(truth, truth, 2, VOID) == 0).all()


def test_what_one_of_both_lacks_is_a_diagonal_away():
    truth, nothing = np.zeros((30, 40), np.uint8), np.zeros((30, 40), np.uint8)
    truth[3:5, 3:5] = 1
    assert hausdorff95(truth, nothing, 2, VOID)[1] == hausdorff95(nothing, truth, 2, VOID)[1] == 50
    truth[truth == 1] = VOID
    # who predicts a class where there is no truth is not asked
    assert np.isnan(hausdorff95(truth, np.where(truth == VOID, 1, 0), 2, VOID)[1])
