"""PM: buy the images with the detection that stands out most from all others in one of four uncertainties."""

from typing import Any, ClassVar, Literal

import numpy as np

from al_lab.acquisition.boxes.mixture import Moments
from al_lab.core.budget import Allowance
from al_lab.core.fields import at_least, below_one, check_fields, one_of, optional, share
from al_lab.core.pool import Pool
from al_lab.core.rng import Rng
from al_lab.core.strategy import ProposeContext, Strategy, take_best
from al_lab.core.types import Candidates, DenseView, ImageView, Query


class Pm(Strategy):
    """Probabilistic modeling: aleatoric and epistemic uncertainty of class and place, in one forward.

    Choi et al., "Active Learning for Deep Object Detection via Probabilistic Modeling", ICCV 2021. The detector's class
    and box layers are mixtures of K components (``detector.branches=[mixture]``, trained by
    ``objective=mixture_density``). Of a detection's class, and of each of its four coordinates:

        aleatoric  sum_k pi_k v_k                epistemic  sum_k pi_k (mu_k - sum_j pi_j mu_j)^2

    (mu of the class as probabilities; of the coordinates the worst counts). Then, for each of the four kinds q:

        q_I = max over the detections of image I;   z_qI = (q_I - mean_q) / std_q;   U(I) = max_q z_qI

    mean and (population) deviation are over all detections of the pool. An image without any has U = -99999.

    | symbol | argument | default | where |
    |---|---|---|---|
    | a detection's confidence | min_confidence | 0.5 | released code |
    | suppression | nms_iou | 0.45 | released code |
    | detections an image | max_boxes | 200 | released code |

    Deviations: a kind in which all detections are equal has z = 0 (the released code: 0/0). The model that chooses is
    the training's last; the released code takes the best of four on VOC's test images.

    Args:
        min_confidence: detections below it don't count.
        nms_iou: overlap above which the less confident of two boxes of a class doesn't count.
        max_boxes: of an image, the most confident ones; None: all.
        ties: hash | id, of equal U.
    """

    needs: ClassVar[tuple[str, ...]] = ("box_mixture",)
    detector_changed: ClassVar[bool] = True

    def __init__(
        self,
        min_confidence: float = 0.5,
        nms_iou: float = 0.45,
        max_boxes: int | None = 200,
        ties: Literal["hash", "id"] = "hash",
    ) -> None:
        check_fields(
            locals(),
            {
                "min_confidence": below_one,
                "nms_iou": share,
                "max_boxes": optional(at_least(1)),
                "ties": one_of("hash", "id"),
            },
            "strategy",
        )
        self.min_confidence, self.nms_iou, self.max_boxes = float(min_confidence), float(nms_iou), max_boxes
        self.ties = ties

    def view_options(self) -> dict[str, Any]:
        """Tell the learner which detections count."""
        return {
            "min_confidence": self.min_confidence,
            "detections": {"nms_iou": self.nms_iou, "max_per_image": self.max_boxes},
        }

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Return the image with the moments of its detections' uncertainties; its utility is known with the pool's."""
        moments = Moments.of(np.asarray(view.extras["box_mixture"]))
        return Candidates.images([view.sample_id], [0.0], **{k: v[None] for k, v in moments._asdict().items()})

    def select(self, candidates: Candidates, pool: Pool, budget: Allowance, rng: Rng) -> list[Query]:
        """Rank by U."""
        if not len(candidates):
            return []
        utility = Moments(*(np.asarray(candidates.info[name]) for name in Moments._fields)).z_scores()
        ranked = Candidates.images(candidates.sample_ids, utility, **candidates.info)
        return take_best(ranked, pool, budget, rng, ties=self.ties)
