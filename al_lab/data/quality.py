"""What makes a photograph not worth a label: unreadable, tiny, dark, blurred, or nearly the same as another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from al_lab.core.budget import Limits
from al_lab.data.near_copies import near_pairs
from al_lab.data.near_vectors import copies_of_earlier, near_cosine, unit

_SIDE_PX = 320  # the longer side at which sharpness is measured
_BRIGHTEST = 95  # percentile


@dataclass(frozen=True)
class Dropped:
    """An image that is left out.

    Attributes:
        sample_id: of it.
        reason: unreadable | tiny | dark | blurred | near_copies.
        what: a sentence with the number that decided.
        like: the image that stays in its place, of near copies.
    """

    sample_id: str
    reason: str
    what: str
    like: str | None = None


def sharpness(image: np.ndarray) -> float:
    """Return the variance of the Laplacian of the gray image, its longer side scaled down to 320 px.

    Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000.

    Args:
        image: (H, W, 3) uint8.
    """
    picture = Image.fromarray(image).convert("L")
    scale = min(1.0, _SIDE_PX / max(picture.size))
    if scale < 1:
        picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    gray = np.asarray(picture, np.float32)
    if min(gray.shape) < 3:  # noqa: PLR2004 - the Laplacian looks one pixel around
        return 0.0
    center = gray[1:-1, 1:-1]
    laplacian = gray[:-2, 1:-1] + gray[2:, 1:-1] + gray[1:-1, :-2] + gray[1:-1, 2:] - 4 * center
    return float(laplacian.var())


def brightness(image: np.ndarray) -> float:
    """Return the gray level, 0..255, that 95 % of the pixels stay below."""
    return float(np.percentile(np.asarray(Image.fromarray(image).convert("L"))[::2, ::2], _BRIGHTEST))


@dataclass(frozen=True)
class Facts:
    """What was seen of N images.

    Attributes:
        ids: of them.
        size_hw: (N, 2) int64; 0 where the image can't be read.
        sharpness: (N,) float64, see `sharpness`.
        brightness: (N,) float64, see `brightness`.
        prints: id to fingerprint, where there is one.
        errors: id to why it can't be read.
        embedding: (N, E) float32, NaN of those that can't be read; None: nobody looked.
    """

    ids: Sequence[str]
    size_hw: np.ndarray
    sharpness: np.ndarray
    brightness: np.ndarray
    prints: Mapping[str, np.ndarray]
    errors: Mapping[str, str]
    embedding: np.ndarray | None = None


def left_out(facts: Facts, reasons: Iterable[str], limits: Limits) -> list[Dropped]:
    """Return the images that are left out for some reasons, in the order of their ids; each for the first that holds.

    Of near copies, by fingerprint or by embedding, the first by id stays; one that was dropped for another reason does
    not.
    """
    wanted = set(reasons)
    readable = [n for n, i in enumerate(facts.ids) if i not in facts.errors]
    usual = float(np.median(facts.sharpness[readable])) if readable else 0.0
    found: dict[str, Dropped] = {}
    for n, sample_id in enumerate(facts.ids):
        if sample_id in facts.errors:
            if "unreadable" in wanted:
                found[sample_id] = Dropped(sample_id, "unreadable", facts.errors[sample_id])
            continue
        side, share = int(facts.size_hw[n].min()), float(facts.sharpness[n]) / max(usual, 1e-12)
        light = float(facts.brightness[n])
        for reason, value, limit, what in (
            ("tiny", side, limits.tiny_px, f"the shorter side has {side} px"),
            ("dark", light, limits.dark, f"95 % of its pixels are below {light:.0f} of 255"),
            ("blurred", share, limits.blurred, f"its sharpness is {share:.3f} of the pool's median"),
        ):
            if reason in wanted and value < limit:
                found[sample_id] = Dropped(sample_id, reason, f"{what}, the limit is {limit:g}")
                break
    if "near_copies" in wanted:
        prints = {i: p for i, p in facts.prints.items() if i not in found}
        copies = {d.sample_id: d for d in _copies(prints, limits.near_copies_bits)}
        found |= _copies_by_vector(facts, {*found, *copies}, limits)
        found |= {i: _of_one_that_stays(d, found) for i, d in copies.items()}
    return [found[i] for i in facts.ids if i in found]


def _copies(prints: Mapping[str, np.ndarray], max_bits: int) -> list[Dropped]:
    like: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for a, b, bits in near_pairs(prints, max_bits):
        like[a].append((b, bits))
        like[b].append((a, bits))
    kept: set[str] = set()
    found = []
    for sample_id in sorted(prints):
        nearest = min(((bits, other) for other, bits in like[sample_id] if other in kept), default=None)
        if nearest is None:
            kept.add(sample_id)
        else:
            what = f"{nearest[0]} of 256 bits differ from those of {nearest[1]}"
            found.append(Dropped(sample_id, "near_copies", what, nearest[1]))
    return found


def _copies_by_vector(facts: Facts, gone: Collection[str], limits: Limits) -> dict[str, Dropped]:
    """Return near copies by embedding among the images that are left."""
    if facts.embedding is None:
        return {}
    row_of = {i: n for n, i in enumerate(facts.ids) if i not in gone and i not in facts.errors}
    ids = sorted(row_of)
    x_NE = unit(facts.embedding[[row_of[i] for i in ids]])
    limit = near_cosine(x_NE, limits.near_copies_cosine)
    if limit is None:
        return {}
    nearest, found = copies_of_earlier(x_NE, limit), {}
    for n in np.flatnonzero(nearest.is_near).tolist():
        like = ids[nearest.row[n]]
        what = f"its embedding has a cosine of {nearest.cosine[n]:.4f} with that of {like}, the limit is {limit:.4f}"
        found[ids[n]] = Dropped(ids[n], "near_copies", what, like)
    return found


def _of_one_that_stays(copy: Dropped, by_vector: Mapping[str, Dropped]) -> Dropped:
    """Name the image that stays, where the one a copy resembles was dropped as a copy itself."""
    like = by_vector.get(copy.like or "")
    if like is None:
        return copy
    return replace(copy, what=f"{copy.what}, {like.what}", like=like.like)
