"""AL-SSL: buy the images in which the detector is unsure and contradicts itself."""

from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch

from al_lab.acquisition.divergence import distribution, normalized_entropy, symmetric_kl
from al_lab.core.budget import Allowance
from al_lab.core.errors import ConfigError, explain
from al_lab.core.fields import at_least, below_one, check_fields, one_of, share
from al_lab.core.pool import Pool
from al_lab.core.rng import Rng
from al_lab.core.strategy import ProposeContext, Strategy, take_best
from al_lab.core.types import Candidates, DenseView, Detections, ImageView, Query

Score = Literal["product", "prefilter", "entropy", "inconsistency", "random"]


class AlSsl(Strategy):
    """Inconsistency x entropy.

    Elezi et al., "Not All Labels Are Equal: Rationalizing the Labeling Costs for Training Object Detection", CVPR 2022.
    With p_i the class distribution of box i and q_i that of the corresponding box of the flipped image:

        h_i = -sum_c p_ic ln p_ic / ln(C + 1)                                       Eq. 4, background included
        j_i = 1/2 [KL(p_i || q_i) + KL(q_i || p_i)]                                 Eq. 2, in nats
        H(I) = max_i h_i,   J(I) = max_i j_i     over the boxes that count: some class has p_ic >= theta, after
        suppression A(I) = H(I) J(I)                                                            Eq. 5; 0 if no box
        counts

    | symbol | argument | default | where |
    |---|---|---|---|
    | A | score | product | Eq. 5; the released code has no product, see ``prefilter`` |
    | theta | count_thresh | 0.5 | released code |
    | suppression | nms_acq | 0.5 | released code (its detector has .45) |
    | i <-> flip | matching | index | released code; Eq. 1 says by overlap (``iou``) |
    | M | prefilter_m | 3000 | released code |

    Sigmoid heads are C yes/no questions: h_i = sum_c Hb(p_ic) / (C ln 2), j_i the sum of the C divergences; the paper
    has none.

    The pseudo-labels and the consistency loss of the paper belong to training: ``objective=csd_pl`` (or ``csd`` without
    the former). Per image, H, J, the number of boxes and the most inconsistent box are kept with the candidates, and
    `select` ranks by these alone.

    By overlap, boxes that the flipped image does not show are compared with background (`match_flipped`); the paper
    leaves them open.

    Deviations: ties are broken by a hash, the released code's by an unstable sort.

    Args:
        score: ``product``; ``prefilter``: the M images of largest H, ranked by J; ``entropy``: H; ``inconsistency``: J;
            ``random``.
        count_thresh: theta.
        nms_acq: overlap above which the less confident of two boxes of a class doesn't count.
        matching: ``index`` | ``iou``, see `FlipRule`.
        prefilter_m: M; with a smaller pool all images.
        ties: hash | id.
    """

    needs: ClassVar[tuple[str, ...]] = ("flip_probs",)
    tasks: ClassVar[tuple[str, ...]] = ("detection",)
    units: ClassVar[tuple[str, ...]] = ("image", "box")

    def __init__(
        self,
        score: Score = "product",
        count_thresh: float = 0.5,
        nms_acq: float = 0.5,
        matching: Literal["index", "iou"] = "index",
        prefilter_m: int = 3000,
        ties: Literal["hash", "id"] = "hash",
    ) -> None:
        check_fields(
            locals(),
            {
                "score": one_of(*get_args(Score)),
                "matching": one_of("index", "iou"),
                "ties": one_of("hash", "id"),
                "count_thresh": below_one,
                "nms_acq": share,
                "prefilter_m": at_least(1),
            },
            "strategy",
        )
        self.score, self.count_thresh, self.nms_acq = score, float(count_thresh), float(nms_acq)
        self.matching, self.prefilter_m, self.ties = matching, int(prefilter_m), ties

    def view_options(self) -> dict[str, Any]:
        """Tell the learner which boxes count."""
        return {"flip": {"count_thresh": self.count_thresh, "nms_acq": self.nms_acq, "matching": self.matching}}

    def check_model(self, network: Any) -> None:
        """Refuse to compare by anchor where there are none."""
        if self.matching == "index" and "anchors" not in network.provides:
            raise ConfigError(
                explain(
                    expected="a detector with anchors for strategy.matching=index",
                    got=type(network).__name__,
                    where="strategy.matching",
                    do="set strategy.matching=iou: boxes are then compared with those that overlap them in the flipped "
                    "image",
                )
            )

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Return the image with H, J and the box of the largest j_i."""
        found = view.flip_detections if isinstance(view, ImageView) else None
        if found is None:
            raise TypeError(
                "AlSsl.propose: expected boxes with flip_probs, got a view without; the learner must provide flip_probs"
            )
        facts = image_facts(found) | {"draw": ctx.rng.generator("random").random()}
        utility = _utility(self.score, facts["entropy"], facts["inconsistency"], facts["draw"])
        return Candidates.images(
            [view.sample_id], [utility], **{name: np.asarray(value)[None] for name, value in facts.items()}
        )

    def select(self, candidates: Candidates, pool: Pool, budget: Allowance, rng: Rng) -> list[Query]:
        """Rank by A; no network is needed to rank the same candidates by another rule."""
        if not len(candidates):
            return []
        h, j, draw = (np.asarray(candidates.info[name], np.float64) for name in ("entropy", "inconsistency", "draw"))
        if self.score == "prefilter":
            open_ids = set(pool.unlabeled())
            is_open = np.array([i in open_ids for i in candidates.sample_ids], bool)
            key = rng.tie_keys(candidates.sample_ids, self.ties)
            order = np.lexsort((key, -h, ~is_open))
            j = np.where(np.isin(np.arange(len(j)), order[: self.prefilter_m]), j, 0.0)
        ranked = Candidates.images(candidates.sample_ids, _utility(self.score, h, j, draw), **candidates.info)
        return take_best(ranked, pool, budget, rng, ties=self.ties)


def image_facts(found: Detections) -> dict[str, Any]:
    """Return H, J, the number of boxes that count, and where and how the largest j_i arose.

    Zeros and -1 without boxes.
    """
    k = found.probs.shape[1]
    facts: dict[str, Any] = {
        "entropy": 0.0,
        "inconsistency": 0.0,
        "count": len(found),
        "box": np.zeros(4, np.float32),
        "box_label": -1,
        "box_probs": np.zeros(k, np.float32),
        "box_flip_probs": np.zeros(k, np.float32),
    }
    if not len(found):
        return facts
    assert found.flip_probs is not None
    p, q = torch.from_numpy(found.probs).double(), torch.from_numpy(found.flip_probs).double()
    facts["entropy"] = float(normalized_entropy(p, found.activation).amax())
    paired = ~torch.isnan(q).any(1)
    if paired.any():
        j = torch.where(
            paired, symmetric_kl(distribution(p, found.activation), distribution(q, found.activation)), -1.0
        )
        worst = int(j.argmax())
        facts |= {
            "inconsistency": float(j[worst]),
            "box": found.boxes_xyxy[worst],
            "box_label": int(found.labels[worst]),
            "box_probs": found.probs[worst],
            "box_flip_probs": found.flip_probs[worst],
        }
    return facts


def _utility(score: str, h: Any, j: Any, draw: Any) -> Any:
    return {"product": h * j, "prefilter": j, "entropy": h, "inconsistency": j, "random": draw}[score]
