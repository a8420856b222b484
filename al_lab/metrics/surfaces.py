"""How well the borders of predicted classes lie where the true ones are: Boundary IoU, 95 % Hausdorff distance.

Shapes: C classes, H x W pixels of one image. Both are computed image by image and class by class; of an image C rows of
a few numbers are kept. Pixels without ground truth belong to no class, in the prediction either: a border along them is
a border of both, and they count nowhere.
"""

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_cdt
from scipy.spatial import cKDTree

RATIO = 0.02  # of the image's diagonal: width of a boundary; Cheng et al., Sec. 4.2
_PERCENT = 95.0


def boundary_counts(
    truth_HW: np.ndarray, predicted_HW: np.ndarray, num_classes: int, ignore: int, ratio: float = RATIO
) -> np.ndarray:
    """Return intersection and union of the boundaries of every class, in pixels; (C, 2) int64.

    Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021 (arXiv 2103.16562),
    Eq. (3):  |(G_d & G) & (P_d & P)| / |(G_d & G) | (P_d & P)|,  where G_d are the pixels within d of the contour of G.

    As in the released code (boundary-iou-api), G_d & G is what d erosions by a 3 x 3 square take off G, so distances
    are Chebyshev's and the image's border is a contour; d = max(1, round(``ratio`` sqrt(H^2 + W^2))).

    Deviation: the paper's is of single objects; here of a class's pixels in an image, whose counts may be added over
    images as those of IoU are.

    Args:
        truth_HW: labels, 0..C-1 or ``ignore``.
        predicted_HW: labels, 0..C-1.
        num_classes: C.
        ignore: the label of pixels that don't count.
        ratio: see above.
    """
    reach = max(1, round(ratio * float(np.hypot(*truth_HW.shape))))
    counts = np.zeros((num_classes, 2), np.int64)
    for c, true, predicted in _masks(truth_HW, predicted_HW, num_classes, ignore):
        both = [_rim(mask, reach) for mask in (true, predicted)]
        counts[c] = np.count_nonzero(both[0] & both[1]), np.count_nonzero(both[0] | both[1])
    return counts


def hausdorff95(truth_HW: np.ndarray, predicted_HW: np.ndarray, num_classes: int, ignore: int) -> np.ndarray:
    """Return the 95 % Hausdorff distance of every class, in pixels; (C,) float64, NaN of a class that is in neither.

    Metrics Reloaded (Maier-Hein et al., Nature Methods 2024, arXiv 2206.01653), "xth percentile Hausdorff distance":

        max{ Q_95 of d(a, dP) over a in dG,  Q_95 of d(b, dG) over b in dP }

    with dG, dP the pixels of G, P that an erosion by a cross takes off (outside the image is outside of the class; as
    MedPy and MONAI have it), d the Euclidean distance of pixel centers, Q_95 numpy's linear quantile. MedPy's hd95
    takes one quantile of both lists together, which is never larger.

    A class that only one of both has gets the image's diagonal, the largest distance there could be (as Metrics
    Reloaded recommends), so that predicting nothing is not the best answer.
    """
    found = np.full(num_classes, np.nan)
    for c, true, predicted in _masks(truth_HW, predicted_HW, num_classes, ignore):
        if not (true.any() and predicted.any()):
            found[c] = float(np.hypot(*truth_HW.shape))
            continue
        ends = [np.argwhere(mask & ~binary_erosion(mask)) for mask in (true, predicted)]
        trees = [cKDTree(points) for points in ends]
        found[c] = max(float(np.percentile(trees[1 - k].query(points)[0], _PERCENT)) for k, points in enumerate(ends))
    return found


def _masks(
    truth_HW: np.ndarray, predicted_HW: np.ndarray, num_classes: int, ignore: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield each class that truth or prediction has, and both masks where they are."""
    valid = truth_HW != ignore
    for c in range(num_classes):
        true, predicted = truth_HW == c, (predicted_HW == c) & valid
        either = true | predicted
        if not either.any():
            continue
        rows, columns = np.flatnonzero(either.any(1)), np.flatnonzero(either.any(0))
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        yield c, true[box], predicted[box]


def _rim(mask: np.ndarray, reach: int) -> np.ndarray:
    """Return the pixels of a mask within ``reach`` of what is outside, beyond the array too; Chebyshev's distance."""
    depth = distance_transform_cdt(np.pad(mask, 1), metric="chessboard")[1:-1, 1:-1]
    return np.asarray((depth > 0) & (depth <= reach))
