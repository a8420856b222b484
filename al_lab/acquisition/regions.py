"""RIPU: how mixed and how uncertain the window around each pixel is, and picking windows one after the other.

Xie et al., "Towards Fewer Annotations: Active Learning via Region Impurity and Prediction Uncertainty for Domain
Adaptive Semantic Segmentation", CVPR 2022; facts from the released code (github.com/BIT-DA/RIPU, 84328cf).

| symbol | here | default | where |
|---|---|---|---|
| k | ``radius_px`` | 1 (regions), 32 (pixels), 9 (regions, source-free) | released configs |
| N_k(i, j) | square window of side 2k + 1, clipped at the border | | |
| P | `region_impurity` | | |
| U | `prediction_uncertainty` | | |
| A = P U | `region_utility` (RA), `pixel_utility` (PA) | | |
| ``eps`` | added inside logarithms | 1e-6 | released code |

Deviations: entropies are divided by ln C, not by ln 19 whatever C is (the order is the same); picking stops when
nothing is open, where the released loop goes on with an arbitrary pixel.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

try:
    import numba
except ImportError:
    numba = None  # type: ignore[assignment]

EPS = 1e-6  # of the released code


def window_sum(values_HW: Tensor, radius_px: int) -> Tensor:
    """Return the sum over the clipped (2k + 1)^2 window of every pixel, (H, W).

    Int32 of booleans, int64 of integers, else float64.

    Raises:
        ValueError: for a negative radius.
    """
    if radius_px < 0:
        raise ValueError(f"window_sum: expected radius_px >= 0, got {radius_px}; 0 is the pixel alone")
    dtype = (
        torch.float64
        if values_HW.is_floating_point()
        else torch.int32
        if values_HW.dtype == torch.bool
        else torch.int64
    )
    sums = values_HW.to(dtype)
    for dim in (0, 1):
        size = sums.shape[dim]
        upto = torch.cat([torch.zeros_like(sums.narrow(dim, 0, 1)), sums.cumsum(dim, dtype=dtype)], dim)
        at = torch.arange(size, device=sums.device)
        sums = upto.index_select(dim, (at + radius_px + 1).clamp(max=size)) - upto.index_select(
            dim, (at - radius_px).clamp(min=0)
        )
    return sums


def window_size(size_hw: tuple[int, int], radius_px: int) -> np.ndarray:
    """Return how many pixels each clipped window has, (H, W) int64."""
    rows, columns = (
        (np.minimum(np.arange(n) + radius_px + 1, n) - np.maximum(np.arange(n) - radius_px, 0)) for n in size_hw
    )
    return rows[:, None] * columns[None, :]


def region_impurity(predicted_HW: Tensor, num_classes: int, radius_px: int, eps: float = EPS) -> Tensor:
    """Entropy of the predicted classes in the window around each pixel.

    P_ij = -sum_c q_c ln(q_c + eps),   q_c = |{n in N_k(i, j): yhat_n = c}| / |N_k(i, j)|.    Eq. (1)

    Args:
        predicted_HW: integer class per pixel, 0..C-1.
        num_classes: C.
        radius_px: k.
        eps: 1e-6 is the released code's, 0 the plain entropy (0 ln 0 = 0).

    Returns:
        (H, W) float64, in nats.

    Raises:
        ValueError: for a label outside 0..C-1.
    """
    if predicted_HW.numel() and not 0 <= int(predicted_HW.min()) <= int(predicted_HW.max()) < num_classes:
        raise ValueError(
            f"region_impurity: expected labels in 0..{num_classes - 1}, got "
            f"{int(predicted_HW.min())}..{int(predicted_HW.max())}; "
            "predictions have no ignore label"
        )
    count_HW = torch.as_tensor(
        window_size((predicted_HW.shape[0], predicted_HW.shape[1]), radius_px), device=predicted_HW.device
    ).double()
    impurity_HW = torch.zeros(predicted_HW.shape, dtype=torch.float64, device=predicted_HW.device)
    # a class that is nowhere adds 0
    occurs_C = torch.bincount(predicted_HW.reshape(-1).long(), minlength=num_classes) > 0
    for label in occurs_C.nonzero().reshape(-1).tolist():
        q_HW = window_sum(predicted_HW == label, radius_px) / count_HW
        impurity_HW -= torch.xlogy(q_HW, q_HW + eps)
    return impurity_HW


def pixel_entropy(probs_CHW: Tensor, eps: float = EPS) -> Tensor:
    """Return H_ij = -sum_c p_c ln(p_c + eps), (H, W), in nats; ``eps`` = 0 is the plain entropy."""
    probs = probs_CHW.float() if probs_CHW.dtype in (torch.float16, torch.bfloat16) else probs_CHW
    return -torch.xlogy(probs, probs + eps).sum(0)


def prediction_uncertainty(entropy_HW: Tensor, radius_px: int) -> Tensor:
    """Mean pixel entropy in the window around each pixel, Eq. (2): U_ij = 1/|N_k| sum_{n in N_k(i, j)} H_n.

    (H, W) float64.
    """
    size_HW = window_size((entropy_HW.shape[0], entropy_HW.shape[1]), radius_px)
    return window_sum(entropy_HW.double(), radius_px) / torch.as_tensor(size_HW, device=entropy_HW.device)


def region_utility(probs_CHW: Tensor, radius_px: int = 1, eps: float = EPS) -> Tensor:
    """RA, Eq. (3): A_ij = [P_ij / ln C] [U_ij / ln C], both over the window; (H, W) float64.

    Args:
        probs_CHW: class probabilities in the image's resolution.
        radius_px: k, of both factors.
        eps: see `region_impurity`.
    """
    num_classes = probs_CHW.shape[0]
    impurity_HW = region_impurity(probs_CHW.argmax(0), num_classes, radius_px, eps)
    uncertainty_HW = prediction_uncertainty(pixel_entropy(probs_CHW, eps), radius_px)
    return impurity_HW * uncertainty_HW / math.log(max(num_classes, 2)) ** 2


def pixel_utility(probs_CHW: Tensor, radius_px: int = 32, eps: float = EPS, window_mean: bool = False) -> Tensor:
    """PA, Eq. (4): A_ij = P_ij H_ij; (H, W) float64.

    Impurity of the window times entropy of the pixel itself, in nats.

    Args:
        probs_CHW: class probabilities in the image's resolution.
        radius_px: k, of the impurity.
        eps: see `region_impurity`.
        window_mean: U of the window instead of the pixel's H, as the paper describes it; the released code takes the
            pixel's.
    """
    impurity_HW = region_impurity(probs_CHW.argmax(0), probs_CHW.shape[0], radius_px, eps)
    entropy_HW = pixel_entropy(probs_CHW, eps)
    return impurity_HW * (prediction_uncertainty(entropy_HW, radius_px) if window_mean else entropy_HW.double())


@dataclass(frozen=True)
class Picks:
    """What `pick_windows` returns.

    Attributes:
        center: (B,) int64 flat pixel indices (row W + column), in the order they were picked.
        utility: (B,) float64, never increasing.
    """

    center: np.ndarray
    utility: np.ndarray


def pick_windows(
    utility_HW: np.ndarray,
    budget: int,
    suppress_px: int,
    closed_HW: np.ndarray | None = None,
    *,
    tie_key_HW: np.ndarray | None = None,
    compiled: bool | None = None,
) -> Picks:
    """Pick the open pixel of largest utility, close the square around it, again; ``budget`` times.

    RA: suppress 2k and label windows of radius k (`window_mask`), so that bought windows never overlap. PA: suppress k,
    label the center.

    Closing never changes a utility, so this is one walk through the pixels in falling order. Only as many of the
    largest as are needed are sorted.

    Args:
        utility_HW: real; no NaN. -inf is never picked.
        budget: how many; fewer if nothing is open any more.
        suppress_px: Chebyshev distance up to which no other center may be.
        closed_HW: (H, W) bool, what may not be a center because of earlier cycles: `closed_by`. Not changed.
        tie_key_HW: (H, W) sortable unique numbers; equal utilities go to the smallest. Default: smallest column, then
            smallest row.
        compiled: whether numba walks; default if it is installed. Same picks either way.

    Raises:
        ValueError: for NaN, or shapes that differ.
    """
    utility_HW = np.asarray(utility_HW)
    closed = np.zeros(utility_HW.shape, bool) if closed_HW is None else np.array(closed_HW, bool)
    for what, values in (("closed_HW", closed), ("tie_key_HW", tie_key_HW)):
        if values is not None and values.shape != utility_HW.shape:
            raise ValueError(
                f"pick_windows: expected {what} of shape {utility_HW.shape}, got {values.shape}; use the "
                f"image's resolution"
            )
    if np.isnan(utility_HW).any():
        raise ValueError(
            f"pick_windows: expected utilities without NaN, got {int(np.isnan(utility_HW).sum())}; the network diverged"
        )
    if suppress_px < 0 or budget < 0:
        raise ValueError(
            f"pick_windows: expected suppress_px and budget >= 0, got {suppress_px} and {budget}; check the "
            f"budget's config"
        )
    if compiled is None:
        compiled = numba is not None
    center = np.zeros(budget, np.int64)
    num = 0
    for order in _falling(utility_HW, closed, tie_key_HW, 4 * budget):
        num = (_walk_compiled if compiled else _walk)(order, closed, suppress_px, center, num)
        if num == budget:
            break
    return Picks(center[:num], utility_HW.reshape(-1)[center[:num]].astype(np.float64))


def _falling(
    utility_HW: np.ndarray, closed: np.ndarray, tie_key_HW: np.ndarray | None, start: int
) -> Iterator[np.ndarray]:
    """Yield flat indices of open pixels from the largest utility on, in pieces that grow."""
    flat = utility_HW.reshape(-1)
    height, width = utility_HW.shape
    # Closed pixels cannot be picked: what closes while walking is skipped there.
    left = np.flatnonzero(~closed.reshape(-1) & (flat > -np.inf))
    size = max(start, 4096)
    while len(left):
        values = flat[left]
        if size < len(left):
            least = np.partition(values, len(left) - size)[len(left) - size]
            is_next = values >= least  # all that tie with the last one come along
        else:
            is_next = np.ones(len(left), bool)
        some = left[is_next]
        key = tie_key_HW.reshape(-1)[some] if tie_key_HW is not None else some % width * height + some // width
        yield some[np.lexsort((key, -values[is_next]))]
        left = left[~is_next]
        left = left[~closed.reshape(-1)[left]]
        size *= 8


def _walk(order: np.ndarray, closed: np.ndarray, suppress_px: int, center: np.ndarray, num: int) -> int:
    """Append what is open to ``center`` in order, closing as it goes; return how many there are now."""
    height, width = closed.shape
    for index in order:
        if num == len(center):
            break
        row, column = index // width, index % width
        if not closed[row, column]:
            closed[
                max(row - suppress_px, 0) : min(row + suppress_px + 1, height),
                max(column - suppress_px, 0) : min(column + suppress_px + 1, width),
            ] = True
            center[num] = index
            num += 1
    return num


_walk_compiled = _walk if numba is None else numba.njit(cache=True, nogil=True)(_walk)


def window_mask(center: np.ndarray, size_hw: tuple[int, int], radius_px: int) -> np.ndarray:
    """Return (H, W) bool: the union of the clipped squares around flat indices ``center``.

    What is bought, or what is closed by it.
    """
    height, width = size_hw
    row, column = np.divmod(np.asarray(center, np.int64), width)
    top, bottom = np.maximum(row - radius_px, 0), np.minimum(row + radius_px + 1, height)
    left, right = np.maximum(column - radius_px, 0), np.minimum(column + radius_px + 1, width)
    # +1 and -1 at the corners; its double sum counts the squares over a pixel
    corner = np.zeros((height + 1, width + 1), np.int32)
    for sign, rows, columns in ((1, top, left), (-1, top, right), (-1, bottom, left), (1, bottom, right)):
        np.add.at(corner, (rows, columns), sign)
    return corner[:-1, :-1].cumsum(0).cumsum(1) > 0


def closed_by(bought_HW: np.ndarray, reach_px: int) -> np.ndarray:
    """Return (H, W) bool: every pixel within ``reach_px`` (Chebyshev) of a bought one.

    With windows of radius k bought and 2k suppressed around their centers, what earlier cycles suppressed is what lies
    within k of the windows; with single pixels bought and k suppressed, what lies within k of them.
    """
    return (window_sum(torch.from_numpy(bought_HW), reach_px) > 0).numpy()


def within_pixels(center: np.ndarray, size_hw: tuple[int, int], radius_px: int, budget_px: int) -> int:
    """Return how many of the windows, in order, cost at most ``budget_px`` pixels together.

    Windows are disjoint, and clipped ones cost less.
    """
    cost = window_size(size_hw, radius_px).reshape(-1)[np.asarray(center, np.int64)]
    return int(np.searchsorted(cost.cumsum(), budget_px, side="right"))


def picks_per_image(size_hw: tuple[int, int], share: float, cycles: int, radius_px: int) -> int:
    """Return windows an image and cycle for a share of all pixels: ceil(H W share / cycles / (2k + 1)^2), as released.

    Windows clipped at the border count as whole ones.
    """
    return math.ceil(size_hw[0] * size_hw[1] * share / cycles / (2 * radius_px + 1) ** 2)


def pixels_per_image(nominal: int, trained_hw: tuple[int, int], native_hw: tuple[int, int], cycles: int) -> int:
    """Return pixels an image and cycle for "40 pixels": counted at training size, bought at native size, as released.

    Rounded up.
    """
    share = nominal * native_hw[0] * native_hw[1] / (trained_hw[0] * trained_hw[1] * cycles)
    return math.ceil(share)


def over_images(
    utilities: Sequence[np.ndarray], budget: int, image_key: Sequence[int] | np.ndarray | None = None
) -> np.ndarray:
    """Return how many picks each image gets when ``budget`` is spent over all of them, (M,) int64.

    Closing a window in one image changes nothing in another and picks come in falling order, so greedy over the data
    set takes a prefix of each image's picks. Exact if each image proposed ``budget`` picks, or all it has.

    Args:
        utilities: each image's `Picks.utility`.
        budget: how many over all images.
        image_key: (M,) equal utilities go to the smallest; default the position.

    Raises:
        ValueError: for utilities that rise.
    """
    length = np.array([len(u) for u in utilities], np.int64)
    for m, values in enumerate(utilities):
        if len(values) > 1 and not (np.diff(values) <= 0).all():
            raise ValueError(
                f"over_images: expected falling utilities, got rising ones in image number {m}; give picks in "
                f"their order"
            )
    image = np.repeat(np.arange(len(length)), length)
    value = np.concatenate([*utilities, np.zeros(0)])
    key = image if image_key is None else np.asarray(image_key)[image]
    taken = np.lexsort((key, -value))[:budget]  # stable: within an image, the order of its picks
    return np.bincount(image[taken], minlength=len(length)).astype(np.int64)
