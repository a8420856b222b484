"""Images of a selection that repeat another one of it, or a labeled one: by fingerprint and by embedding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from al_lab.data.lint.reference import Measure
from al_lab.data.near_copies import near_pairs
from al_lab.data.near_vectors import copies_of_earlier, nearest_of

_SETS = 20  # random selections whose copies are counted
_MOST = 1000  # images of one of them

Prints = Callable[[str], np.ndarray | None]


@dataclass(frozen=True)
class Copy:
    """One image of the selection that brings little new.

    Attributes:
        sample_id: of it.
        like: the better ranked, or labeled, image it repeats.
        is_labeled: whether that one is labeled.
        what: the number that decided.
    """

    sample_id: str
    like: str
    is_labeled: bool
    what: str


@dataclass(frozen=True)
class Copies:
    """What was found.

    Attributes:
        found: a copy a line, in rank order.
        num_opened, num_labeled_opened: images whose fingerprints were looked at.
        num_labeled: all that are labeled.
        min_cosine: from which on embeddings are near; None: nobody looked.
        measure: the share of copies by embedding beside random selections.
    """

    found: Sequence[Copy] = ()
    num_opened: int = 0
    num_labeled_opened: int = 0
    num_labeled: int = 0
    min_cosine: float | None = None
    measure: Measure | None = field(default=None)


def copies_by_print(chosen: Sequence[str], labeled: Sequence[str], prints: Prints, most: int, max_bits: int) -> Copies:
    """Return copies by fingerprint; of many images the first chosen ones are opened, then some labeled ones.

    Args:
        chosen: in rank order.
        labeled: images that are labeled.
        prints: opens an image and returns its fingerprint, see `al_lab.data.near_copies.fingerprint`.
        most: images that are opened.
        max_bits: in which near copies differ at most.
    """
    opened = list(chosen[:most])
    left = max(0, most - len(opened))
    some = [labeled[k] for k in np.unique(np.linspace(0, len(labeled) - 1, min(left, len(labeled))).astype(int))]
    rank = {i: n - len(some) for n, i in enumerate([*some, *opened])}  # whoever is labeled comes before all others
    known = {i: p for i in rank if (p := prints(i)) is not None}
    best: dict[str, tuple[int, str]] = {}
    for pair in near_pairs(known, max_bits):
        earlier, later = sorted(pair[:2], key=rank.__getitem__)
        if rank[later] >= 0:
            best[later] = min(best.get(later, (pair[2], earlier)), (pair[2], earlier))
    found = [
        Copy(i, best[i][1], rank[best[i][1]] < 0, f"{best[i][0]} of 256 bits differ")
        for i in opened
        if i in best and i in known
    ]
    return Copies(found, len(opened), len(some), len(labeled))


def copies_by_vector(
    unit_NE: np.ndarray,
    ids: Sequence[str],
    chosen: np.ndarray,
    unit_LE: np.ndarray,
    labeled: Sequence[str],
    min_cosine: float,
    seed: int,
) -> Copies:
    """Return copies by embedding, and their share beside random selections.

    Args:
        unit_NE: of the pool, see `al_lab.data.near_vectors.unit`.
        ids: of the pool.
        chosen: rows of the selection, in rank order.
        unit_LE: of the labeled images.
        labeled: their ids.
        min_cosine: see `al_lab.data.near_vectors.near_cosine`.
        seed: of the random selections.
    """
    mine_E = unit_NE[chosen]
    old, new = nearest_of(mine_E, unit_LE, min_cosine), copies_of_earlier(mine_E, min_cosine)
    found = []
    for k, row in enumerate(chosen.tolist()):
        if old.is_near[k]:
            found.append(Copy(ids[row], labeled[old.row[k]], True, f"cosine {old.cosine[k]:.4f}"))
        elif new.is_near[k]:
            found.append(Copy(ids[row], ids[chosen[new.row[k]]], False, f"cosine {new.cosine[k]:.4f}"))
    rng, size = np.random.default_rng(seed), min(len(chosen), _MOST)

    def share(rows: np.ndarray) -> float:
        x_E = unit_NE[rows]
        near = nearest_of(x_E, unit_LE, min_cosine).is_near | copies_of_earlier(x_E, min_cosine).is_near
        return 100 * float(near.mean())

    mine = share(chosen[np.sort(rng.permutation(len(chosen))[:size])])
    random = np.array([share(rng.choice(len(unit_NE), size, replace=False)) for _ in range(_SETS)])
    measure = Measure("copies", "near copies by embedding", mine, random, "low", "%")
    return Copies(found, num_labeled=len(labeled), min_cosine=min_cosine, measure=measure)


def joined(by_print: Copies, by_vector: Copies, rank: Mapping[str, int]) -> Copies:
    """Return both, an image once; the fingerprint's word counts first."""
    found = {c.sample_id: c for c in [*by_vector.found, *by_print.found]}
    both = sorted(found.values(), key=lambda c: rank[c.sample_id])
    return Copies(
        both, by_print.num_opened, by_print.num_labeled_opened, by_print.num_labeled, by_vector.min_cosine,
        by_vector.measure,
    )  # fmt: skip
