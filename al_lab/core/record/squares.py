"""Which squares or segments a purchase of pixels is made of: one question each, whoever answers."""

import numpy as np
from scipy import ndimage

from al_lab.core.record.purchase import Purchase
from al_lab.core.types import Candidates, Region


def squares_of_purchase(purchase: Purchase) -> Candidates | None:
    """Return the candidates of a purchase of squares; None for one of single pixels, segments or whole images."""
    path = purchase.folder / "candidates.npz"
    candidates = Candidates.load(path) if path.is_file() else None
    if candidates is not None and candidates.center is not None:
        return candidates if candidates.radius_px and candidates.segment is None else None
    if purchase.allowance.unit == "region":  # replayed: nobody knows the squares
        return candidates if candidates is not None else Candidates.images([], [])
    return None


def squares(region: Region, sample_id: str, candidates: Candidates) -> list[np.ndarray]:
    """Return the windows that make up a region, the most wanted first; what is left over are pixels that touch.

    Returns:
        The flat pixel indices of each.
    """
    bought = region.mask().reshape(-1)
    left = bought.copy()
    parts: list[np.ndarray] = []
    if candidates.center is not None and sample_id in candidates.sample_ids:
        rows = np.flatnonzero(candidates.sample == candidates.sample_ids.index(sample_id))
        rows = rows[bought[candidates.center[rows]]]
        for row in rows[np.argsort(-candidates.utility[rows], kind="stable")].tolist():
            window = candidates.region_of(row)
            assert window is not None
            if bought[window.pixels].all() and left[window.pixels].any():
                parts.append(window.pixels)
                left[window.pixels] = False
    pieces, count = ndimage.label(left.reshape(region.size_hw), np.ones((3, 3)))
    return parts + [np.flatnonzero(pieces == n) for n in range(1, count + 1)]


def num_clicks(purchase: Purchase) -> int:
    """Return how many times a class has to be named: once a single pixel, a square, a segment; never for an image."""
    candidates = squares_of_purchase(purchase)
    return sum(
        len(region.parts())
        if region.segments is not None
        else len(region)
        if candidates is None
        else len(squares(region, query.sample_id, candidates))
        for query in purchase.queries
        if (region := query.region) is not None
    )
