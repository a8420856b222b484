"""Means over the segments of an image, on the device of what is averaged.

Shapes: H x W pixels, h x w cells of a coarser map, R segments, C classes, D dimensions.
"""

import numpy as np
import torch
from torch import Tensor


def segment_means(values_CHW: Tensor, segments_HW: np.ndarray) -> Tensor:
    """Return the mean of each channel over each segment, (R, C) float64; NaN where a number has no pixel.

    Args:
        values_CHW: on any device.
        segments_HW: whole numbers 0..R-1.
    """
    segment_P = torch.as_tensor(segments_HW.reshape(-1).astype(np.int64), device=values_CHW.device)
    area_R = torch.bincount(segment_P)
    sum_CR = torch.zeros(len(values_CHW), len(area_R), dtype=torch.float64, device=values_CHW.device)
    for channel, sum_R in zip(values_CHW, sum_CR, strict=True):  # one at a time: a float64 copy of all is large
        sum_R.index_add_(0, segment_P, channel.reshape(-1).double())
    return (sum_CR / area_R).T


def feature_means(features_Dhw: Tensor, segments_HW: np.ndarray) -> Tensor:
    """Return the mean of a coarser map over each segment, as if it were upsampled to the image first; (R, D) float64.

    Bilinear with corners not aligned, as D2ADA's released code upsamples. D maps at the image's size are never made: a
    mean of interpolated values is a weighted mean of the cells, and the weights are the same for every channel.

    Args:
        features_Dhw: on any device.
        segments_HW: whole numbers 0..R-1.
    """
    dims, rows, columns = features_Dhw.shape
    device = features_Dhw.device
    segment_HW = torch.as_tensor(segments_HW.astype(np.int64), device=device)
    area_R = torch.bincount(segment_HW.reshape(-1))
    weight_RK = torch.zeros(len(area_R) * rows * columns, dtype=torch.float64, device=device)
    row_2H, share_2H = _neighbors(segments_HW.shape[0], rows, device)
    column_2W, share_2W = _neighbors(segments_HW.shape[1], columns, device)
    for row_H, by_H in zip(row_2H, share_2H, strict=True):
        for column_W, by_W in zip(column_2W, share_2W, strict=True):
            cell_HW = (segment_HW * rows + row_H[:, None]) * columns + column_W
            weight_RK.index_add_(0, cell_HW.reshape(-1), (by_H[:, None] * by_W).reshape(-1))
    sum_RD = weight_RK.reshape(len(area_R), rows * columns) @ features_Dhw.reshape(dims, -1).double().T
    return sum_RD / area_R[:, None]


def _neighbors(size: int, cells: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return for each pixel the two cells it lies between, (2, size), and the share of each."""
    at = ((torch.arange(size, device=device, dtype=torch.float64) + 0.5) * cells / size - 0.5).clamp(min=0)
    low = at.floor().long().clamp(max=cells - 1)
    high = (low + 1).clamp(max=cells - 1)
    share = at - low
    return torch.stack([low, high]), torch.stack([1 - share, share])


def open_segments(segments_HW: np.ndarray, bought_HW: np.ndarray | None) -> np.ndarray:
    """Return the numbers of the segments of which no pixel was bought, ascending."""
    num = int(segments_HW.max()) + 1
    has_pixels = np.bincount(segments_HW.reshape(-1), minlength=num) > 0
    if bought_HW is not None:
        has_pixels[np.unique(segments_HW[bought_HW])] = False
    return np.flatnonzero(has_pixels)
