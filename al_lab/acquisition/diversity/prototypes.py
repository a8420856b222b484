"""Entropies without repetitions, and images unlike those chosen before (EBAL: entropy-based active learning).

Shapes: D detections of an image, F features, C classes, N images, Q prototypes of all images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


def distinct(entropy_D: np.ndarray, labels_D: np.ndarray, unit_DF: np.ndarray, same: float) -> np.ndarray:
    """Return the detections that say something of their own: entropy-based non-maximum suppression (ENMS).

    EBAL (Wu et al., CVPR 2022, Alg. 1): repeatedly keep the detection of largest entropy; the others of its class whose
    features' cosine with it is above ``same`` are dropped.

    Args:
        entropy_D: H_k.
        labels_D: classes.
        unit_DF: features of unit length.
        same: T_e.

    Returns:
        Rows, by falling entropy; equal ones by position.
    """
    order = np.argsort(-entropy_D, kind="stable")
    is_like = (labels_D[:, None] == labels_D) & (unit_DF @ unit_DF.T > same)
    is_open, kept = np.ones(len(order), bool), []
    for k in order.tolist():
        if is_open[k]:
            kept.append(k)
            is_open &= ~is_like[k]
            is_open[k] = False
    return np.array(kept, np.int64)


def prototypes(entropy_D: np.ndarray, labels_D: np.ndarray, features_DF: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes of an image and what each looks like: proto_c = sum_{k in c} H_k f_k / sum_{k in c} H_k.

    EBAL (CVPR 2022, Eq. 5).

    Returns:
        (Q,) rising, (Q, F).
    """
    classes, row_D = np.unique(labels_D, return_inverse=True)
    weight_QD = (row_D == np.arange(len(classes))[:, None]) * np.maximum(entropy_D, np.finfo(np.float64).tiny)
    weight_QD = weight_QD / weight_QD.sum(1, keepdims=True)
    return classes, weight_QD @ features_DF


@dataclass(frozen=True)
class Shown:
    """The classes that images show, all in one table.

    Attributes:
        start: (N + 1,) image n's rows are start[n] to start[n + 1].
        label: (Q,) the class.
        confidence: (Q,) of the most confident detection of this class.
        prototype: (Q, F).
    """

    start: np.ndarray
    label: np.ndarray
    confidence: np.ndarray
    prototype: np.ndarray


class Rules(NamedTuple):
    """When an image is refused.

    Attributes:
        intra: T_intra, likeness to the chosen ones from which on it is.
        inter: T_inter, confidence of a minority class up to which it is.
    """

    intra: float
    inter: float


class Scanned(NamedTuple):
    """What a scan took.

    Attributes:
        rows: accepted ones in order, then the best of the others.
        num_accepted: how many of them were accepted.
    """

    rows: np.ndarray
    num_accepted: int


def scan(
    ranked: Sequence[int] | np.ndarray,
    shown: Shown,
    amount: int,
    quotas: dict[int, float],
    rules: Rules,
    near: Callable[[int], np.ndarray] | None = None,
) -> Scanned:
    """Go through images by falling entropy; take what shows a minority class and is unlike what was taken.

    EBAL (CVPR 2022, Sec. 3.4, Alg. 2), with dS what was taken and M the minority classes:

        M_g(I) = min_c max_{J in dS, c in J} cos(proto_{J,c}, proto_{I,c});    M_p(I) = max_{c in M} max_{k in c} s_k
        accept if M_g < T_intra and M_p > T_inter; then each c in M with s_{I,c} > T_inter loses one of its quota

    A class without quota leaves M; the scan ends when M is empty or dS is full. Others fill it up by rank. A class not
    seen in dS has likeness -1: it is new. What is not detected has confidence 0.

    Args:
        ranked: rows of ``shown``, the most wanted first.
        shown: what images show; one that shows nothing can only fill up.
        amount: b.
        quotas: class -> quota: M.
        rules: thresholds.
        near: rows that may not be taken beside a row.
    """
    ranked = np.asarray(ranked, np.int64)
    likeness = _Likeness(shown, ranked)
    left, is_open = {c: quota for c, quota in quotas.items() if quota > 0}, np.ones(len(shown.start) - 1, bool)
    rows: list[int] = []

    def take(row: int) -> None:
        rows.append(row)
        is_open[[row] if near is None else near(row)] = False

    for row in ranked.tolist():
        if not left or len(rows) == amount:
            break
        if not is_open[row]:
            continue
        mine = slice(int(shown.start[row]), int(shown.start[row + 1]))
        sure = dict(zip(shown.label[mine].tolist(), shown.confidence[mine].tolist(), strict=True))
        minority = [c for c in left if sure.get(c, 0.0) > rules.inter]
        if not minority or likeness.least(mine) >= rules.intra:
            continue
        take(row)
        likeness.add(mine)
        for c in minority:
            left[c] -= 1
            if left[c] <= 0:
                del left[c]
    num_accepted = len(rows)
    for row in ranked.tolist():
        if len(rows) >= amount:
            break
        if is_open[row]:
            take(row)
    return Scanned(np.array(rows, np.int64), num_accepted)


class _Likeness:
    """The largest cosine of each prototype with those of its class that were taken; a product a prototype taken.

    The table is sorted by class, then rank: what is taken concerns the rest of its class only.
    """

    def __init__(self, shown: Shown, ranked: np.ndarray) -> None:
        rank_N = np.full(len(shown.start) - 1, len(ranked))
        rank_N[ranked] = np.arange(len(ranked))
        order = np.lexsort((np.repeat(rank_N, np.diff(shown.start)), shown.label))
        self._place_Q = np.argsort(order)
        self._stop_Q = np.searchsorted(shown.label[order], shown.label[order], "right")
        unit_QF = shown.prototype[order].astype(np.float32)
        length_Q = np.linalg.norm(unit_QF, axis=1, keepdims=True)
        self._unit_QF = np.divide(unit_QF, length_Q, out=unit_QF, where=length_Q > 0)
        self._most_Q = np.full(len(order), -1.0, np.float32)

    def least(self, mine: slice) -> float:
        """Return M_g of an image's rows."""
        return float(self._most_Q[self._place_Q[mine]].min(initial=1.0)) if mine.stop > mine.start else -1.0

    def add(self, mine: slice) -> None:
        """Take an image."""
        for place in self._place_Q[mine].tolist():
            rest = slice(place + 1, int(self._stop_Q[place]))
            most = self._most_Q[rest]
            np.maximum(most, self._unit_QF[rest] @ self._unit_QF[place], out=most)
