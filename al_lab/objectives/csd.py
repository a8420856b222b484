"""CSD: an image and its flipped image should be seen alike, labeled or not."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from al_lab.core.fields import Kind, check_fields, not_negative, one_of, optional, share
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.network import AnchorDetector, together
from al_lab.objectives.consistency import (
    BoxResidual,
    Distance,
    class_distance,
    flip_residual,
    foreground,
    mean_over_batch,
    rows_of,
)
from al_lab.objectives.ramp import Ramp
from al_lab.objectives.supervised import Supervised

Mask = Literal["orig", "both", "none"]
PseudoLoss = Literal["positives_only", "all"]


# How unlabeled images share a batch, and are labeled by the model itself.
LABELED_PART: dict[str, Kind[Any]] = {
    "labeled_ratio": share,
    "tau": optional(share),
    "pl_loss": one_of(*get_args(PseudoLoss)),
}


class CSD(Supervised):
    """Consistency-based semi-supervised detection.

    Jeong et al., NeurIPS 2019; the training of AL-SSL (Elezi et al., CVPR 2022, Eq. 8-11). With p, l the prediction of
    anchor i for the image and q, l' that of the corresponding anchor for its flipped image:

        J_i    = 1/2 [KL(p || q) + KL(q || p)]
        R_i    = 1/4 [(dx + dx')^2 + (dy - dy')^2 + (dw - dw')^2 + (dh - dh')^2]
        L_con  = mean_i J_i + mean_i R_i             over the batch's anchors i with max_{c>=1} p_c > p_0
        L      = L_class + L_box + w(t) L_con         the first two on images with labels or pseudo-labels

    | symbol | argument | default | where |
    |---|---|---|---|
    | w(t) | weight * ramp | CSD's ramp | CSD's code; AL-SSL's Eq. 11 has none, its code has it |
    | distance | cons_cls | symkl | AL-SSL Eq. 2 and both codes; CSD's paper says ``js`` |
    | anchors | be_mask | orig | CSD Table 3: none 72.0, orig 72.3, both 71.7 |
    | R | cons_loc | legacy | all published results; ``geom_corrected`` subtracts what SSD's asymmetric grid of anchors
    adds to dx + dx' |
    | L : U | labeled_ratio | 0.5 | AL-SSL's sampler; CSD's own code draws from the union |
    | tau | tau | null | AL-SSL Sec. 3.3: .99 on VOC, .75 on COCO |
    | loss of pseudo-labels | pl_loss | positives_only | AL-SSL's code |

    Sigmoid heads (RetinaNet) are read as C yes/no questions: J sums their divergences, and an anchor counts when its
    likeliest class is more likely there than not. CSD and AL-SSL say nothing about them.

    Deviations: anchors correspond by index, as in both codes (AL-SSL's Eq. 1 says by overlap). Unlabeled images are
    cropped without looking at boxes (the codes use a dummy box, or the hidden truth).

    Args:
        weight: factor on w(t). 0 is the control: the same batches, no second forward.
        ramp: arguments of `Ramp`.
        cons_cls: ``symkl`` | ``js``.
        cons_detach: each direction's first distribution is a fixed target (``symkl`` only).
        be_mask: anchors that count by the image (``orig``), by it and its flip (``both``), or all (``none``).
        cons_loc: ``legacy`` | ``geom_corrected``.
        labeled_ratio: part of a batch that is labeled.
        tau: train on boxes that the previous cycle's model finds in unlabeled images with at least this confidence;
            null: don't.
        pl_loss: class loss of images with pseudo-labels: ``positives_only``, or ``all``: with hard negatives, as
            labeled ones.
        supervised: arguments of `Supervised`.
    """

    needs: ClassVar[tuple[str, ...]] = ("anchors",)

    def __init__(
        self,
        weight: float = 1.0,
        ramp: Mapping[str, Any] | None = None,
        cons_cls: Distance = "symkl",
        cons_detach: bool = True,
        be_mask: Mask = "orig",
        cons_loc: BoxResidual = "legacy",
        labeled_ratio: float = 0.5,
        tau: float | None = None,
        pl_loss: PseudoLoss = "positives_only",
        supervised: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(**(supervised or {}))
        check_fields(
            locals(),
            {
                "cons_cls": one_of(*get_args(Distance)),
                "be_mask": one_of(*get_args(Mask)),
                "cons_loc": one_of(*get_args(BoxResidual)),
                "weight": not_negative,
                **LABELED_PART,
            },
            "objective",
        )
        self.weight, self.ramp = float(weight), Ramp(**(ramp or {}))
        self.cons_cls, self.cons_detach, self.be_mask, self.cons_loc = cons_cls, bool(cons_detach), be_mask, cons_loc
        self.labeled_ratio, self.tau, self.pl_loss = float(labeled_ratio), tau, pl_loss

    def forward(self, network: AnchorDetector, batch: Any, step: int, total_steps: int) -> dict[str, Tensor]:
        """Return ``loss`` and its parts for one `Batch`."""
        if self.weight == 0:
            return super().forward(network, batch, step, total_steps)
        head, flipped = together(network, batch.images, batch.images.flip(-1))
        parts = self.of_head(network, head, batch)
        classes, boxes, count = self.consistency(network, head, flipped)
        w = self.weight * self.ramp(step, total_steps)
        return parts | {
            "loss": parts["loss"] + w * (classes + boxes),
            "consistency_class": classes.detach(),
            "consistency_box": boxes.detach(),
            "num_consistent": count,
            "weight": torch.tensor(w),
        }

    def consistency(
        self, network: AnchorDetector, head: HeadOutput, flipped: HeadOutput
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the two means of L_con and the number of anchors they are taken over.

        Args:
            network: gives activation and the symmetry of its anchors.
            head: of the images.
            flipped: of the flipped images, as the network gives it.
        """
        pairs = network.flip_anchors(head)
        selected = torch.ones(head.logits.shape[:2], dtype=torch.bool, device=head.logits.device)
        if self.be_mask != "none":
            selected = foreground(head.logits, network.activation)
        if self.be_mask == "both":
            selected = selected & foreground(flipped.logits, network.activation)[:, pairs.anchor]
        image, anchor = selected.nonzero(as_tuple=True)
        partner = pairs.anchor[anchor]
        p, q = rows_of(network, head.logits, image, anchor), rows_of(network, flipped.logits, image, partner)
        offset = pairs.offset[anchor] if self.cons_loc == "geom_corrected" else None
        residual = flip_residual(head.deltas[image, anchor], flipped.deltas[image, partner], offset)
        classes = mean_over_batch(class_distance(p, q, self.cons_cls, self.cons_detach))
        return classes, mean_over_batch(residual), torch.tensor(float(len(image)))
