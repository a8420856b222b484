"""What MC-dropout and the ensemble share: an image is worth what several looks at it disagree about."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from al_lab.acquisition.aggregate import aggregate
from al_lab.acquisition.boxes.mutual_information import mean_over_levels
from al_lab.core.fields import below_one, one_of, optional
from al_lab.core.strategy import ProposeContext, Reason, Strategy
from al_lab.core.types import Candidates, DenseView, Detections, ImageView


class Disagreement(Strategy):
    """An image by the mutual information of its detections.

    A learner looks T times, averages the class distributions of each prior, and suppresses by the averages:

        p_i = 1/T sum_t p_ti,    MI_i = H(p_i) - 1/T sum_t H(p_ti)     at each detection i that is left, nats
        U(I) = max_i MI_i   |   the mean of MI_i over the detections of a level, then over levels;   0 without any

    Args:
        aggregate: max | mean.
        min_confidence: detections below it, by their averages, don't count; None: those that the detector drops.
        as_released: for sigmoid detectors, see `Looks`.
        ties: hash | id.
    """

    tasks: ClassVar[tuple[str, ...]] = ("detection",)
    units: ClassVar[tuple[str, ...]] = ("image", "box")

    def __init__(
        self, aggregate: str, min_confidence: float | None, as_released: bool, ties: Literal["hash", "id"]
    ) -> None:
        self.how = one_of("max", "mean")(aggregate, "strategy.aggregate", do="max is AL-SSL's")
        self.min_confidence = optional(below_one)(min_confidence, "strategy.min_confidence", do="e.g. null")
        self.as_released = bool(as_released)
        self.ties = one_of("hash", "id")(ties, "strategy.ties", do="use hash; id is for published examples")

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Return the image with its utility."""
        _, value_D, level_D = self._of_boxes(view)
        utility = aggregate(value_D, "max") if self.how == "max" else mean_over_levels(value_D, level_D)
        return Candidates.images([view.sample_id], [utility])

    def explain(self, view: ImageView, ctx: ProposeContext, classes: Sequence[str], utility: float) -> Reason:
        """See `Strategy.explain`: what the looks disagree about most."""
        kept, value_D, level_D = self._of_boxes(view)
        if not len(kept):
            return Reason({"boxes": 0}, "no detection")
        worst = int(value_D.argmax())
        parts = {
            "boxes": float(len(kept)),
            "max": aggregate(value_D, "max"),
            "mean": mean_over_levels(value_D, level_D),
        }
        box = f"{classes[int(kept.labels[worst])]} {kept.confidence[worst]:.2f}"
        return Reason(parts, f"of {len(kept)} boxes the looks disagree most about {box}: {parts['max']:.3f} nats")

    def _of_boxes(self, view: ImageView | DenseView) -> tuple[Detections, Tensor, Tensor]:
        """Return the detections that count, the mutual information and the feature level of each."""
        found = view.detections if isinstance(view, ImageView) else None
        if found is None or (len(found) and "box_mutual_information" not in view.extras):
            raise TypeError(
                f"{type(self).__name__}: expected detections with their mutual information, got a view without; the "
                f"learner must provide class_probs and box_mutual_information"
            )
        counts = np.full(len(found), True) if self.min_confidence is None else found.confidence >= self.min_confidence
        value_D, level_D = (
            np.asarray(view.extras[name])[counts] if len(found) else np.zeros(0, kind)
            for name, kind in (("box_mutual_information", np.float32), ("box_level", np.int64))
        )
        return found.rows(counts), torch.from_numpy(value_D), torch.from_numpy(level_D)
