"""EBAL: entropies without repetitions; images of rare classes first, unlike those chosen before."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from scipy.special import entr

from al_lab.acquisition.diversity.prototypes import Rules, Shown, distinct, prototypes, scan
from al_lab.core.budget import Allowance
from al_lab.core.fields import fraction, not_negative, number, number_in, one_of, share
from al_lab.core.pool import Pool
from al_lab.core.record.labels import read_labels
from al_lab.core.rng import Rng
from al_lab.core.strategy import ProposeContext, Reason
from al_lab.core.types import Annotation, Candidates, DenseView, ImageView, Query
from al_lab.strategies.rivals._two_pass import TwoPass, boxes_with_features

_CLAMP = 1e-7  # of confidences, so that a certain detection has an entropy; ours
_ROUNDING = 1e-9  # of alpha C: 0.55 of 20 is 11


class Ebal(TwoPass):
    """Entropy-based active learning with diverse prototypes: Wu, Chen & Huang, CVPR 2022 (arXiv 2203.10350).

    RE-IMPLEMENTED: the authors' code is not public; the constants are those on which three re-implementations of others
    agree.

    1. H_k = Hb(s_k) of each detection; of those of a class that look alike only the least sure counts (ENMS):

        E(I) = sum of H_k over the detections kept                                                    Alg. 1
        proto_c = sum_{k in c} H_k f_k / sum_{k in c} H_k, over the detections kept                    Eq. (5)

    2. Images by falling E. dS is what is chosen, M the alpha C rarest classes of L, each with quota beta b / (alpha C):

        M_g = min_c max_{J in dS, c in J} cos(proto_{J,c}, proto_{I,c});    M_p = max_{c in M} max_{k in c} s_k
        accept if M_g < T_intra and M_p > T_inter; each c in M with s_{I,c} > T_inter then loses one of its quota

    M empty or dS full ends it; the rest goes by E                                                    Eq. (6), Alg. 2

    | symbol | argument | default | where |
    |---|---|---|---|
    | T_e | same | 0.5 | re-implementations |
    | T_intra | intra | 0.7 | re-implementations |
    | T_inter | inter | 0.3 | re-implementations |
    | alpha, beta | alpha, beta | 0.5, 0.75 | re-implementations |
    | detections | min_confidence | s > .05 after suppression | UNSPECIFIED; ours |
    | f | | RetinaNet: class tower at the center of the box; SSD: mean of fc7 over it; unit length | UNSPECIFIED; ours |

    A class that dS does not show has likeness -1: it is new. Where alpha C is no whole number M is rounded up and the
    quota is not. An image without detections has E = 0 and is bought last.

    Args:
        same: T_e: cosine of features from which on two detections of a class are one.
        intra: T_intra.
        inter: T_inter.
        alpha: share of the classes that are rare ones.
        beta: share of the budget that is meant for them.
        min_confidence: detections that are not above it are not looked at.
        ties: equal E: hash (of seed, cycle and id) | id.
    """

    needs: ClassVar[tuple[str, ...]] = ("detections", "box_features")
    needs_labels: bool = True

    def __init__(
        self,
        same: float = 0.5,
        intra: float = 0.7,
        inter: float = 0.3,
        alpha: float = 0.5,
        beta: float = 0.75,
        min_confidence: float = 0.05,
        ties: Literal["hash", "id"] = "hash",
    ) -> None:
        self.same = number_in(-1, 1)(same, "strategy.same", do="e.g. 0.5")
        self.rules = Rules(number(intra, "strategy.intra"), number(inter, "strategy.inter"))
        self.alpha = share(alpha, "strategy.alpha", do="e.g. 0.5")
        self.beta = not_negative(beta, "strategy.beta", do="e.g. 0.75")
        self.min_confidence = fraction(min_confidence, "strategy.min_confidence", do="e.g. 0.05")
        self.ties = one_of("hash", "id")(ties, "strategy.ties")
        self._labels: Callable[[Sequence[str]], Mapping[str, Annotation]] | None = None

    def restore(self, cycle_dir: Path) -> None:
        """Read the prototypes, and remember where the labels bought so far are."""
        super().restore(cycle_dir)
        if (cycle_dir.parent / "initial").is_dir():
            self._labels = partial(read_labels, cycle_dir.parent)

    def view_options(self) -> dict[str, Any]:
        """See `Strategy.view_options`."""
        return {"detections": {"conf_min": self.min_confidence}}

    def closer_options(self) -> dict[str, Any]:
        """See `TwoPass.closer_options`: the same look, of which more is kept."""
        return self.view_options()

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Return the image with E."""
        entropy_D, _, _, kept = self._seen(view)
        found = view.detections if isinstance(view, ImageView) else None
        assert found is not None
        num_classes = found.probs.shape[1] - (found.activation == "softmax")
        return Candidates.images([view.sample_id], [float(entropy_D[kept].sum())], num_classes=[num_classes])

    def _seen(self, view: ImageView | DenseView) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return entropies (D,), classes (D,), unit features (D, F), and the detections that ENMS keeps."""
        if not isinstance(view, ImageView):
            raise TypeError("Ebal: expected a detector's view")
        label_D, confidence_D, feature_DF = boxes_with_features(view)
        s_D = confidence_D.astype(np.float64).clip(_CLAMP, 1 - _CLAMP)
        entropy_D = np.asarray(entr(s_D) + entr(1 - s_D))
        length_D1 = np.linalg.norm(feature_DF.astype(np.float64), axis=1, keepdims=True)
        unit_DF = feature_DF / np.where(length_D1 > 0, length_D1, 1)
        return entropy_D, label_D, unit_DF, distinct(entropy_D, label_D, unit_DF, self.same)

    def shortlist(self, candidates: Candidates, pool: Pool, budget: Allowance, rng: Rng) -> list[str]:
        """Return all images with a detection: the scan may go through all of them."""
        unlabeled = set(pool.unlabeled())
        found = zip(candidates.sample_ids, candidates.utility.tolist(), strict=True)
        return [i for i, value in found if value > 0 and i in unlabeled]

    def rows_of(self, view: ImageView) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the classes of an image, their largest confidences and their prototypes."""
        entropy_D, label_D, unit_DF, kept = self._seen(view)
        classes, proto_QF = prototypes(entropy_D[kept], label_D[kept], unit_DF[kept])
        _, confidence_D, _ = boxes_with_features(view)
        most_Q = np.array([confidence_D[label_D == c].max() for c in classes], np.float32)
        return classes, most_Q, proto_QF

    def select(self, candidates: Candidates, pool: Pool, budget: Allowance, rng: Rng) -> list[Query]:
        """Return what the scan accepts, in its order, then the others of largest E."""
        unlabeled, ids = set(pool.unlabeled()), candidates.sample_ids
        key = rng.tie_keys(ids, self.ties)
        order = [n for n in np.lexsort((key, -candidates.utility)).tolist() if ids[n] in unlabeled]
        ranked = [ids[n] for n in order]
        if not ranked:
            return []
        rows = self.rows.of(ranked)
        shown = Shown(rows.start, rows.label, rows.confidence, rows.feature)
        quotas = self.quotas(int(candidates.info["num_classes"].max()), pool, budget.amount)
        near = None if pool.apart is None else pool.apart.rows(ranked).near
        taken = scan(range(len(ranked)), shown, budget.amount, quotas, self.rules, near)
        return [Query(ranked[n], None, float(candidates.utility[order[n]])) for n in taken.rows.tolist()]

    def quotas(self, num_classes: int, pool: Pool, amount: int) -> dict[int, float]:
        """Return the quota of each of the alpha C classes that are rarest among the labels; of equal ones the first."""
        known = self._labels(list(pool.labeled())) if self._labels is not None else {}
        labels = np.concatenate([np.zeros(0, np.int64), *(a.labels for a in known.values())])
        rarest = np.argsort(np.bincount(labels, minlength=num_classes)[:num_classes], kind="stable")
        num_rare = self.alpha * num_classes
        rounded_up = math.ceil(num_rare - _ROUNDING)
        return dict.fromkeys(rarest[:rounded_up].tolist(), self.beta * amount / num_rare)

    def learn(self, labels: Mapping[str, Annotation]) -> None:
        """See `Strategy.learn`."""
        self._labels = lambda ids: {i: labels[i] for i in ids if i in labels}

    def explain(self, view: ImageView, ctx: ProposeContext, classes: Sequence[str], utility: float) -> Reason:
        """See `Strategy.explain`."""
        entropy_D, label_D, _, kept = self._seen(view)
        parts = {"boxes": float(len(entropy_D)), "distinct": float(len(kept)), "entropy": float(entropy_D.sum())}
        if not len(kept):
            return Reason(parts, "no detection")
        name = classes[int(label_D[kept[0]])]
        return Reason(parts, f"{len(kept)} of {len(entropy_D)} detections tell of something new, first of all a {name}")
