"""Judges a selection without a training: its objects, embeddings, copies and cost beside random selections.

Shapes: N images of the pool, k of the selection, R random selections, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from al_lab.data.lint.copies import Copies
from al_lab.data.lint.objects import (
    Objects,
    class_distance,
    rows_of,
    shares,
    side_distance,
    typical_side,
)
from al_lab.data.lint.reference import Measure, one_set, random_sets
from al_lab.data.lint.vectors import vector_measures

_RATES = (2.0, 7.0)  # conf/oracle/rates/published.yaml
_STARVES = 2 / 3  # of a random selection's images, if nine of ten random selections have more; ours


@dataclass(frozen=True)
class Target:
    """What a selection should be like.

    Attributes:
        words: "the validation set".
        seen: how its objects are known: "as it is labeled".
        objects: of its images; None: no more than ``class_C`` is known.
        class_C: objects of each class, where that is all.
        unit_VE: embeddings, or None.
    """

    words: str
    seen: str = ""
    objects: Objects | None = None
    class_C: np.ndarray | None = None
    unit_VE: np.ndarray | None = None


@dataclass(frozen=True)
class Subject:
    """A selection and the pool it comes from.

    Attributes:
        ids: N images that could have been chosen, the chosen ones among them.
        chosen: (k,) rows of the selection, in rank order.
        classes: names in label order.
        objects: of the N images; None: nobody knows any.
        unit_NE: embeddings, zeros of images without one; None: there are none.
        sample: rows that stand for the pool: random selections are drawn from these, with replacement; None: from
            all N.
        rates: seconds of labeling an image and a box, see `al_lab.core.oracle.Oracle`.
        shows: confidence from which on an image counts as one that shows a class.
        seed: of the random selections.
    """

    ids: Sequence[str]
    chosen: np.ndarray
    classes: Sequence[str]
    objects: Objects | None = None
    unit_NE: np.ndarray | None = None
    sample: np.ndarray | None = None
    rates: tuple[float, float] = _RATES
    shows: float = 0.3
    seed: int = 0


@dataclass(frozen=True)
class ClassLine:
    """One class of a selection.

    Attributes:
        name: of it.
        images: of the selection that show it.
        random_images: of random selections, (R,).
        boxes: expected.
        share: of the selection's boxes.
        target_share: of those it is compared with; None: there are none.
        random_share: of random selections' boxes, on average.
        starves: far fewer images show it than of a random selection.
    """

    name: str
    images: float
    random_images: Measure
    boxes: float
    share: float
    target_share: float | None
    random_share: float
    starves: bool

    @property
    def times(self) -> float | None:
        """How many times as often it is shown as in the target; None where that has none, or there is no target."""
        return self.share / self.target_share if self.target_share else None

    @property
    def random_times(self) -> float | None:
        """The same of random selections."""
        return self.random_share / self.target_share if self.target_share else None


@dataclass(frozen=True)
class Lint:
    """What was found.

    Attributes:
        num_chosen: k.
        num_pool: images that random selections are drawn from.
        is_sample: with replacement, for they stand for the pool.
        is_known: objects are people's; otherwise a detector's.
        target: what it is compared with, in words; "" if there is nothing.
        seen: see `Target`.
        classes: a line each.
        measures: distances to the target, and what a random selection has.
        cost: boxes and minutes.
        copies: see `Copies`.
        notes: what couldn't be looked at, in sentences.
    """

    num_chosen: int
    num_pool: int
    is_sample: bool
    is_known: bool
    target: str
    seen: str
    classes: Sequence[ClassLine]
    measures: Sequence[Measure]
    cost: Sequence[Measure]
    copies: Copies = field(default_factory=Copies)
    notes: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the numbers, plain."""
        return {
            "images": self.num_chosen,
            "pool": self.num_pool,
            "compared_with": self.target,
            "objects": "labeled" if self.is_known else "predicted",
            "measures": [_plain(m) for m in self.measures],
            "cost": [_plain(m) for m in self.cost],
            "classes": [
                {
                    "class": c.name, "images": c.images, "images_random": c.random_images.mean, "boxes": c.boxes,
                    "share": c.share, "share_compared": c.target_share, "share_random": c.random_share,
                    "starves": c.starves,
                }
                for c in self.classes
            ],
            "copies": [
                {"id": c.sample_id, "like": c.like, "is_labeled": c.is_labeled, "what": c.what}
                for c in self.copies.found
            ],
            "notes": list(self.notes),
        }  # fmt: skip


def _plain(measure: Measure) -> dict[str, Any]:
    low, high = measure.middle
    return {
        "key": measure.key, "what": measure.words, "unit": measure.unit, "value": measure.value,
        "random": measure.mean, "random_5": low, "random_95": high, "percentile": measure.percentile,
        "better": measure.better,
    }  # fmt: skip


def lint(subject: Subject, target: Target, copies: Copies, notes: Sequence[str] = ()) -> Lint:
    """Return what can be said of a selection; memory is that of the pool's rows, never N x N.

    Args:
        subject: the selection.
        target: what it should be like.
        copies: see `al_lab.data.lint.copies`.
        notes: of whoever read the files.
    """
    said, num = list(notes), len(subject.ids)
    mine = one_set(num, subject.chosen)
    random = random_sets(num, len(subject.chosen), subject.seed, subject.sample)
    measures: list[Measure] = []
    classes: list[ClassLine] = []
    cost: list[Measure] = []
    if subject.objects is not None:
        measures, classes, cost = _objects(subject, target, mine, random)
    measures += _vectors(subject, target, said)
    if copies.measure is not None:
        measures.append(copies.measure)
    is_known = subject.objects is not None and subject.objects.is_known
    has_target = target.objects is not None or target.class_C is not None or target.unit_VE is not None
    words = target.words if has_target else ""
    whence = num if subject.sample is None else len(subject.sample)
    return Lint(
        len(subject.chosen), whence, subject.sample is not None, is_known, words, target.seen, classes, measures, cost,
        copies, tuple(said),
    )  # fmt: skip


def _objects(
    subject: Subject, target: Target, mine: csr_array, random: csr_array
) -> tuple[list[Measure], list[ClassLine], list[Measure]]:
    """Return measures, classes and cost that the objects tell."""
    assert subject.objects is not None
    num_classes = len(subject.classes)
    rows = rows_of(subject.objects, num_classes, subject.shows)
    class_RC, shows_RC, side_RB, count_RK = (
        [(sets @ table).toarray() for sets in (mine, random)]
        for table in (rows.class_NC, rows.shows_NC, rows.side_NB, rows.count_NK)
    )
    unit = "%" if subject.objects.in_shares else "px"
    scale = 100 if subject.objects.in_shares else 1
    side = [scale * typical_side(sums, subject.objects.in_shares) for sums in side_RB]
    measures = []
    target_C = target.class_C
    if target.objects is not None:
        of = rows_of(target.objects, num_classes, subject.shows)
        class_C, side_B, count_K = (table.sum(0) for table in (of.class_NC, of.side_NB, of.count_NK))
        target_C = class_C
        by_count = [100 * class_distance(sums, count_K) for sums in count_RK]
        by_side = [side_distance(sums, side_B) for sums in side_RB]
        measures.append(Measure("counts", "distance by objects an image", *_of(by_count), "low", "%"))
        if side_B.any() and target.objects.in_shares == subject.objects.in_shares:
            measures.append(Measure("sides", "distance by size", *_of(by_side), "low", "octaves"))
    if target_C is not None and target_C.sum() > 0:
        by_class = [100 * class_distance(sums, target_C) for sums in class_RC]
        measures.insert(0, Measure("classes", "distance by class", *_of(by_class), "low", "%"))
    seen = [(sums > 0).sum(-1).astype(float) for sums in shows_RC]
    measures.append(Measure("num_classes", f"classes that are shown, of {num_classes}", *_of(seen), "high"))
    if side_RB[0].any():
        measures.append(Measure("side", "typical size of an object", *_of(side), None, unit))
    boxes = [sums.sum(-1) for sums in class_RC]
    per_image, per_box = subject.rates
    seconds = [per_image * len(subject.chosen) + per_box * b for b in boxes]
    cost = [
        Measure("boxes", "boxes", *_of(boxes)),
        Measure("minutes", "minutes of labeling", *_of([s / 60 for s in seconds]), None, "min"),
    ]
    return measures, _class_lines(subject.classes, class_RC, shows_RC, target_C), cost


def _of(pair: Sequence[np.ndarray]) -> tuple[float, np.ndarray]:
    return float(pair[0][0]), np.asarray(pair[1], np.float64)


def _class_lines(
    names: Sequence[str],
    class_RC: Sequence[np.ndarray],
    shows_RC: Sequence[np.ndarray],
    target_C: np.ndarray | None,
) -> list[ClassLine]:
    share_C, random_C = shares(class_RC[0][0]), shares(class_RC[1]).mean(0)
    is_known = target_C is not None and target_C.sum() > 0
    target_share_C = shares(target_C) if is_known and target_C is not None else None
    lines = []
    for c, name in enumerate(names):
        images = Measure("images", name, float(shows_RC[0][0, c]), shows_RC[1][:, c])
        starves = images.value < images.middle[0] and images.value <= _STARVES * images.mean
        share = None if target_share_C is None else float(target_share_C[c])
        boxes = float(class_RC[0][0, c])
        lines.append(
            ClassLine(name, images.value, images, boxes, float(share_C[c]), share, float(random_C[c]), starves)
        )
    return lines


def _vectors(subject: Subject, target: Target, notes: list[str]) -> list[Measure]:
    """Return what embeddings tell, of the images that have one; without a target's, against the pool."""
    if subject.unit_NE is None:
        return []
    has = (subject.unit_NE != 0).any(1)
    chosen = subject.chosen[has[subject.chosen]]
    if len(chosen) < len(subject.chosen):
        notes.append(f"{len(subject.chosen) - len(chosen):,} of the chosen images have no embedding and don't count in "
                     "what embeddings tell")  # fmt: skip
    if not len(chosen):
        return []
    place = np.cumsum(has) - 1
    unit_ME = subject.unit_NE[has]
    mine = one_set(len(unit_ME), place[chosen])
    random = random_sets(len(unit_ME), len(chosen), subject.seed)
    of_pool = target.unit_VE is None or not len(target.unit_VE)
    if of_pool:
        notes.append("No embedding of a validation or test image is known: embeddings are compared with the pool's")
    return vector_measures(unit_ME, mine, random, unit_ME if of_pool else np.asarray(target.unit_VE), of_pool)


def rates_of(oracle: Any) -> tuple[float, float]:
    """Return the seconds an image and a box take: as an oracle's configuration has them, else the published ones."""
    found = oracle if isinstance(oracle, Mapping) else {}
    given = [found.get(key) for key in ("seconds_per_image", "seconds_per_box")]
    image, box = (float(v) if isinstance(v, int | float) else d for v, d in zip(given, _RATES, strict=True))
    return image, box
