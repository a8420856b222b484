"""PAL: learn on labeled images which detections are likely false; buy where that is unsure, and unlike the others."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from scipy.special import entr

from al_lab.core.budget import Allowance
from al_lab.core.fields import at_least, fraction, number_from, one_of, positive
from al_lab.core.pool import Pool
from al_lab.core.record.labels import read_labels
from al_lab.core.rng import Rng
from al_lab.core.strategy import ProposeContext, Reason, Strategy
from al_lab.core.types import Annotation, Candidates, DenseView, Detections, ImageView, Query
from al_lab.metrics.voc_ap import true_positives
from al_lab.strategies.detection._logistic import fit, sigma

log = logging.getLogger(__name__)

_WIDTH = 7  # of a box's row: x1 y1 x2 y2, confidence, label, boxes merged into it
_FEWEST = 10  # boxes of a class, of both kinds, for a regression of its own


class Pal(Strategy):
    """Portable Active Learning, RE-IMPLEMENTED FROM TEXT: abstract and notes; no code is public, numbers are ours.

    "Portable Active Learning", CVPR 2026 (arXiv 2605.10349). It looks at outputs only, so any detector's predictions
    serve.

    1. *Is a detection true?* On labeled images a detection is a true positive if it overlaps an object of its class
       (IoU > 0.5, each object once). Per class a logistic regression on its confidence and the number of boxes that
       non-maximum suppression merged into it gives p = P(true | s, count).
    2. *LIUS*: the entropy of that answer, Hb(p), is the uncertainty of a detection.
    3. *GUIDE*: images by their class-weighted sum, rare classes weighing more, with a penalty for images that resemble
       those chosen before.

        v_Ic = sum over detections of class c of Hb(p);    U(I) = sum_c w_c v_Ic
        pick by pick:  argmax_I U(I) (1 - lambda max_{J chosen} cos(v_I, v_J))

    | symbol | argument | default | where |
    |---|---|---|---|
    | IoU | iou | 0.5 | UNSPECIFIED |
    | w_c | class_weights | rarity: 1 / sqrt(1 + n_c), mean 1; n_c labeled objects | UNSPECIFIED |
    | lambda | similarity | 0.5 | UNSPECIFIED; the paper's penalty depends on the rank, ours on what was chosen |
    | | factor | 4: images of highest U, in budgets, among which GUIDE chooses | UNSPECIFIED |
    | | ridge | 1, on standardized features | UNSPECIFIED |

    A class with few detections on labeled images has the regression of all classes together; without any labeled image
    p is the confidence. Detectors with anchors count the merged boxes, and a file of predictions may (``suppressed``);
    of any other model the count is 1 and says nothing.

    Args:
        min_confidence: detections below it are not looked at.
        iou: from which on a detection is true.
        class_weights: rarity | equal.
        similarity: lambda, in [0, 1]; 0: no penalty.
        factor: so many budgets are ranked by U before the penalty chooses.
        ridge: of the regressions.
        max_boxes: of an image, the most confident ones.
    """

    needs: ClassVar[tuple[str, ...]] = ("class_probs",)
    also: ClassVar[tuple[str, ...]] = ("pre_suppression_count",)
    units: ClassVar[tuple[str, ...]] = ("image",)
    scores_labeled: bool = True
    needs_labels: bool = True

    def __init__(
        self,
        min_confidence: float = 0.05,
        iou: float = 0.5,
        class_weights: Literal["rarity", "equal"] = "rarity",
        similarity: float = 0.5,
        factor: float = 4.0,
        ridge: float = 1.0,
        max_boxes: int = 100,
    ) -> None:
        self.min_confidence = fraction(min_confidence, "strategy.min_confidence", do="e.g. 0.05")
        self.iou = fraction(iou, "strategy.iou", do="e.g. 0.5")
        self.class_weights = one_of("rarity", "equal")(class_weights, "strategy.class_weights")
        self.similarity = fraction(similarity, "strategy.similarity", do="0: no penalty")
        self.factor = number_from(1)(factor, "strategy.factor", do="e.g. 4")
        self.ridge = positive(ridge, "strategy.ridge", do="e.g. 1")
        self.max_boxes = at_least(1)(max_boxes, "strategy.max_boxes", do="e.g. 100")
        self._labels: Callable[[Sequence[str]], Mapping[str, Annotation]] | None = None
        self._judge = Judge({}, None)

    def restore(self, cycle_dir: Path) -> None:
        """Remember where the labels bought so far are."""
        if (cycle_dir.parent / "initial").is_dir():
            self._labels = partial(read_labels, cycle_dir.parent)

    def learn(self, labels: Mapping[str, Annotation]) -> None:
        """See `Strategy.learn`."""
        self._labels = lambda ids: {i: labels[i] for i in ids if i in labels}

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Return the image with its boxes, (max_boxes, 7), NaN where there are fewer; their worth is learned later."""
        return Candidates.images([view.sample_id], [0.0], boxes=self._boxes(view)[None])

    def select(self, candidates: Candidates, pool: Pool, budget: Allowance, rng: Rng) -> list[Query]:
        """Return the picks of GUIDE, in order."""
        table = _Table(np.asarray(candidates.info["boxes"], np.float64))
        ids, labeled = candidates.sample_ids, set(pool.labeled())
        of_labeled = [n for n, i in enumerate(ids) if i in labeled]
        known = dict(self._labels([ids[n] for n in of_labeled])) if self._labels is not None else {}
        num_classes = table.num_classes(known.values())
        truth = {n: known[ids[n]] for n in of_labeled if ids[n] in known}
        self._judge = self._learned(table, truth, num_classes)
        profile_NC = table.profiles(self._judge.uncertainty(table.boxes_D7), num_classes)
        utility_N = profile_NC @ self._weights(list(known.values()), num_classes)
        unlabeled = set(pool.unlabeled())
        key = rng.tie_keys(ids)
        ranked = sorted((n for n, i in enumerate(ids) if i in unlabeled), key=lambda n: (-utility_N[n], key[n]))
        most = len(ranked) if pool.apart is not None else int(np.ceil(self.factor * budget.amount))
        rows = np.array(ranked[: max(most, budget.amount)], np.int64)
        near = None if pool.apart is None else pool.apart.rows([ids[n] for n in rows]).near
        picks = guide(utility_N[rows], profile_NC[rows], budget.amount, self.similarity, near)
        return [Query(ids[rows[n]], None, value) for n, value in picks]

    def explain(self, view: ImageView, ctx: ProposeContext, classes: Sequence[str], utility: float) -> Reason:
        """See `Strategy.explain`: of what `select` learned last."""
        boxes = _Table(self._boxes(view)[None].astype(np.float64)).boxes_D7
        if not len(boxes):
            return Reason({"boxes": 0}, "no detection")
        truth_D, doubt_D = self._judge.probability(boxes), self._judge.uncertainty(boxes)
        least = int(doubt_D.argmax())
        name = classes[int(boxes[least, 5])]
        words = (
            f"{len(boxes)} detections; of {name} {boxes[least, 4]:.2f} the chance to be true is {truth_D[least]:.2f}"
        )
        return Reason({"boxes": float(len(boxes)), "entropy": float(doubt_D.sum())}, words)

    def _boxes(self, view: ImageView | DenseView) -> np.ndarray:
        if not isinstance(view, ImageView) or view.detections is None:
            raise TypeError("Pal.propose: expected detections; the learner must provide class_probs")
        kept = view.detections.above(self.min_confidence)
        found = np.full((self.max_boxes, _WIDTH), np.nan, np.float32)
        size = min(len(kept), self.max_boxes)
        found[:size, :4], found[:size, 4], found[:size, 5] = (
            kept.boxes_xyxy[:size],
            kept.confidence[:size],
            kept.labels[:size],
        )
        counts = kept.pre_suppression_count
        found[:size, 6] = 1 if counts is None else counts[:size]
        return found

    def _weights(self, labels: Sequence[Annotation], num_classes: int) -> np.ndarray:
        if self.class_weights == "equal" or not labels:
            return np.ones(num_classes)
        count_C = np.bincount(np.concatenate([a.labels for a in labels]), minlength=num_classes)
        weight_C = 1 / np.sqrt(1 + count_C)
        return weight_C / weight_C.mean()

    def _learned(self, table: "_Table", truth: Mapping[int, Annotation], num_classes: int) -> "Judge":
        """Fit the regressions on the detections of labeled images."""
        found = [table.detections(n) for n in truth]
        is_true, is_false = true_positives(found, list(truth.values()), num_classes, self.iou)
        judged = np.flatnonzero(is_true | is_false)
        if not len(judged) or is_true[judged].all() or not is_true[judged].any():
            log.warning(
                "pal: %d detections on %d labeled images, all of one kind: their confidence is taken as it is",
                len(judged), len(truth),
            )  # fmt: skip
            return Judge({}, None)
        boxes = np.concatenate([table.of(n) for n in truth])[judged]
        x, label, y = boxes[:, [4, 6]], boxes[:, 5].astype(np.int64), is_true[judged]
        own = {}
        for c in np.unique(label).tolist():
            mine = label == c
            if min((y[mine]).sum(), (~y[mine]).sum()) >= _FEWEST:
                own[c] = fit(x[mine], y[mine], self.ridge)
        return Judge(own, fit(x, y, self.ridge))


class Judge:
    """P(true | confidence, count) of a detection, class by class.

    Args:
        own: label -> weights of confidence and count, and the bias.
        common: of all other classes; None: the confidence itself is the probability.
    """

    def __init__(self, own: Mapping[int, np.ndarray], common: np.ndarray | None) -> None:
        self.own, self.common = own, common

    def probability(self, boxes_D7: np.ndarray) -> np.ndarray:
        """Return p, (D,)."""
        s_D, label_D, x_D2 = boxes_D7[:, 4], boxes_D7[:, 5].astype(np.int64), boxes_D7[:, [4, 6]]
        if self.common is None:
            return s_D
        p_D = sigma(x_D2 @ self.common[:-1] + self.common[-1])
        for c, w in self.own.items():
            mine = label_D == c
            p_D[mine] = sigma(x_D2[mine] @ w[:-1] + w[-1])
        return p_D

    def uncertainty(self, boxes_D7: np.ndarray) -> np.ndarray:
        """Return Hb(p), (D,), in nats."""
        p_D = self.probability(boxes_D7)
        return np.asarray(entr(p_D) + entr(1 - p_D))


class _Table:
    """Padded boxes (N, M, 7) as rows without the padding."""

    def __init__(self, boxes_NM7: np.ndarray) -> None:
        held = np.isfinite(boxes_NM7[:, :, 4])
        self.count_N = held.sum(1)
        self.boxes_D7 = boxes_NM7[held]
        self._start = np.concatenate([[0], np.cumsum(self.count_N)])

    def of(self, n: int) -> np.ndarray:
        return self.boxes_D7[self._start[n] : self._start[n + 1]]

    def detections(self, n: int) -> Detections:
        rows = self.of(n)
        sure = rows[:, 4].astype(np.float32)
        return Detections(rows[:, :4].astype(np.float32), sure, rows[:, 5].astype(np.int64), sure[:, None], "sigmoid")

    def num_classes(self, labels: Iterable[Annotation]) -> int:
        seen = [int(a.labels.max(initial=-1)) for a in labels]
        return 1 + max([*seen, int(self.boxes_D7[:, 5].max(initial=-1)), 0])

    def profiles(self, value_D: np.ndarray, num_classes: int) -> np.ndarray:
        """Return (N, C): the sum of a value over the boxes of each class."""
        row_D = np.repeat(np.arange(len(self.count_N)), self.count_N)
        flat = np.bincount(
            row_D * num_classes + self.boxes_D7[:, 5].astype(np.int64), value_D, len(self.count_N) * num_classes
        )
        return flat.reshape(-1, num_classes)


def guide(
    utility_N: np.ndarray,
    profile_NC: np.ndarray,
    amount: int,
    similarity: float,
    near: Callable[[int], np.ndarray] | None = None,
) -> list[tuple[int, float]]:
    """Pick, again and again, the row of largest utility less its likeness to those picked; equal ones by position.

    Args:
        utility_N: >= 0.
        profile_NC: what likeness (the cosine) is told by; a row of zeros is like no other.
        amount: how many.
        similarity: lambda in U (1 - lambda max cos).
        near: rows that may not be picked beside a row.

    Returns:
        Row and penalized utility of each pick, in order.
    """
    length_N = np.linalg.norm(profile_NC, axis=1)
    unit_NC = profile_NC / np.where(length_N > 0, length_N, 1)[:, None]
    like_N, is_open = np.zeros(len(utility_N)), np.ones(len(utility_N), bool)
    picks: list[tuple[int, float]] = []
    for _ in range(min(amount, len(utility_N))):
        value_N = np.where(is_open, utility_N * (1 - similarity * like_N), -np.inf)
        best = int(value_N.argmax())
        if not is_open[best]:
            break
        picks.append((best, float(value_N[best])))
        is_open[best] = False
        if near is not None:
            is_open[near(best)] = False
        like_N = np.maximum(like_N, unit_NC @ unit_NC[best])
    return picks
