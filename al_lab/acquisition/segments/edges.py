"""Edges of a photograph: Canny's, to the pixel as OpenCV finds them, without OpenCV."""

import numpy as np
from scipy import ndimage

_GRAY = np.array([9798, 19235, 3735], np.int64)  # of red, green and blue, in 2^-15
_BINOMIAL = np.array([1, 4, 6, 4, 1], np.int64)  # a Gaussian of 5 pixels
_TAN_22_5 = 13573  # in 2^-15


def edge_map(image_HW3: np.ndarray, low: int = 50, high: int = 150) -> np.ndarray:
    """Return where the edges of an image are, (H, W) bool.

    Gray values are blurred over 5 x 5 pixels; 50 and 150 are those of ReDAL's port to images (D2ADA's released code,
    which calls cv2.GaussianBlur and cv2.Canny).
    """
    gray_HW = ((image_HW3.astype(np.int64) * _GRAY).sum(-1) + (1 << 14)) >> 15
    blurred_HW = gray_HW
    for axis in (0, 1):
        blurred_HW = ndimage.correlate1d(blurred_HW, _BINOMIAL, axis, mode="mirror")
    return canny((blurred_HW + 128) >> 8, low, high)


def canny(gray_HW: np.ndarray, low: int, high: int) -> np.ndarray:
    """Return Canny's edges (PAMI 1986), (H, W) bool, with gradients of 3 x 3 and their L1 norm.

    Args:
        gray_HW: whole numbers.
        low: a local maximum above it is an edge if it touches one ...
        high: ... that is above this.
    """
    gray = gray_HW.astype(np.int64)
    dx, dy = (ndimage.sobel(gray, axis, mode="nearest") for axis in (1, 0))
    size = np.abs(dx) + np.abs(dy)
    padded = np.pad(size, 1)

    def at(down: int, right: int) -> np.ndarray:
        return padded[1 + down : 1 + down + size.shape[0], 1 + right : 1 + right + size.shape[1]]

    flat_x, steep_y = np.abs(dx) * _TAN_22_5, np.abs(dy) << 15
    is_flat, is_steep = steep_y < flat_x, steep_y > flat_x + (np.abs(dx) << 16)
    is_falling = (dx < 0) != (dy < 0)
    diagonal = np.where(is_falling, (size > at(-1, 1)) & (size > at(1, -1)), (size > at(-1, -1)) & (size > at(1, 1)))
    across = (size > at(0, -1)) & (size >= at(0, 1))
    along = (size > at(-1, 0)) & (size >= at(1, 0))
    weak = (size > low) & np.where(is_flat, across, np.where(is_steep, along, diagonal))
    pieces, num = ndimage.label(weak, np.ones((3, 3)))
    is_edge = np.zeros(num + 1, bool)
    is_edge[np.unique(pieces[weak & (size > high)])] = True
    found: np.ndarray = is_edge[pieces] & weak
    return found
