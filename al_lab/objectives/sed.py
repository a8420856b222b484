"""SED: a student should see in distorted and half-size images what its teacher sees in the image.

The teacher is the student's slowly moving average.
"""

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast, get_args

import torch
from torch import Tensor, distributed

from al_lab.core.fields import below_one, check_fields, not_negative, number_from, one_of
from al_lab.core.rng import Rng
from al_lab.data.device import sent
from al_lab.data.loading.batch import Kind
from al_lab.data.transforms.strong import StrongView
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.network import SIZES, AnchorDetector
from al_lab.models.detectors.scale import ScalePairs, halve, same_anchors, scale_pairs
from al_lab.models.recent import Recent
from al_lab.objectives.csd import LABELED_PART, PseudoLoss
from al_lab.objectives.ema import follow, momentum
from al_lab.objectives.ramp import Ramp
from al_lab.objectives.reduce import global_positives
from al_lab.objectives.soft_targets import BoxDistance, box_distance, soft_focal
from al_lab.objectives.supervised import Supervised

log = logging.getLogger(__name__)

_PARTS = ("same_class", "same_box", "scale_class", "scale_box", "num_distilled", "num_scaled")


@dataclass(frozen=True)
class Target:
    """What the teacher says of B images at P anchors.

    Attributes:
        probs: (B, P, C), of the classes, without background.
        boxes: (B, P, 4) xyxy in fractions of the input.
        weight: (B, P), w_a; 0 in a batch's padding.
    """

    probs: Tensor
    boxes: Tensor
    weight: Tensor


class SED(Supervised):
    """Scale-equivalent distillation: a RECONSTRUCTION, made without the paper's text and without code.

    Guo et al., CVPR 2022 (arXiv 2203.12244). Known from its abstract: end-to-end distillation from a teacher;
    consistency between versions of an image that differ in size; soft targets instead of pseudo-labels; a re-weighting
    that brings out what may be foreground. Every formula and number below is our own choice. MGRAL (which trains its
    COCO table with "SED-SSOD") needs the order of trainings, not the published AP.

    Per unlabeled image, with p, b the class probabilities and decoded boxes at anchor a: the teacher T sees the image
    as the trainer augments it (weak view), the student S a strong view (`StrongView`) of it, and another strong view at
    half the size.

        T      <- m T + (1 - m) S                                                        after each step of the student
        w_a    =  max_c p_T(a, c)
        L_cls  =  sum_a w_a sum_c |p_T - p_S|^gamma BCE(p_S, p_T) / sum_a w_a             anchors with w_a > class_floor
        L_box  =  sum_a w_a [1 - GIoU(b_S, b_T)] / sum_a w_a                              anchors with w_a > box_floor
        L_same, L_scale  =  L_cls + L_box    the full-size strong view; the half-size one, whose anchor (level l, row,
        column, shape)
                                             is compared with the teacher's (l + 1, row, column, shape)
        L      =  L_sup + w(t) (L_same + L_scale)                                         L_sup on images with labels or
        pseudo-labels

    | symbol | argument | default | where |
    |---|---|---|---|
    | w(t) | weight * ramp | exp(-5 (1 - t/T)^2) up to 25 %, then 1 | reconstruction: 25 % of the schedule; weight 1 to
    2 |
    | burn-in | burn_in | 2/90 | reconstruction: 2,000 iterations; here a part of the training, of mmdet's 90,000 |
    | m | ema | 0.999 | reconstruction |
    | gamma | gamma | 2 | reconstruction |
    | class_floor | class_floor | 0 | reconstruction: no threshold, so no missed object becomes background |
    | box_floor | box_floor | 0.1 | reconstruction |
    | 1 - GIoU | box | giou | reconstruction: "GIoU/L1"; ``l1``: sum of four, fractions of the input |
    | strong view | strong | Unbiased Teacher's | UNSPECIFIED beyond jitter, gray, blur, cutout |
    | L : U | labeled_ratio | 0.5 | UNSPECIFIED; Unbiased Teacher has 1 : 1 |

    Silent points, decided here. (1) In the burn-in w(t) = 0 and the student alone learns; the teacher begins as its
    copy at the end; t counts from the training's start. (2) ``ema_warmup``: m grows as min(m, (n + 1) / (n + 10)) with
    the teacher's n-th step, else a training of some hundred steps would end with the teacher it began with; a long one
    is the same. (3) The teacher's buffers (BatchNorm's statistics) are copied, it predicts in evaluation mode, no
    gradient enters it, and the *student* is what is evaluated. (4) The teacher's flip is the trainer's: all views have
    one geometry. (5) Class and box terms, and L_same and L_scale, have equal weights. (6) A divisor is at least 1:
    where the teacher sees nothing the loss fades. (7) Softmax heads: p_c is one of C probabilities, each a yes/no
    question, background is no class, so both kinds of heads have one formula. (8) The gradient of |p_T - p_S|^gamma is
    kept. (9) Images with pseudo-labels (tau, pl_loss as in `CSD`) are unlabeled images too: their strong view enters
    L_sup. (10) A network of fixed input can't take a half-size image: it gets it in a corner of its input; where levels
    do not double exactly (SSD), pairs of anchors count if one would match the other as a box
    (`al_lab.models.detectors.scale`), and boxes are compared decoded. (11) Anchors in padding don't count. (12) The
    strong view's colors are changed at full size, then the image is halved.

    Args:
        weight: factor on w(t). 0 is the control: the same batches, no teacher.
        ramp: arguments of `Ramp`, in place of the ones above.
        burn_in: part of the training in which only labels count.
        ema: m.
        ema_warmup: the teacher follows faster at first.
        gamma: focuses on anchors on which the two differ; 0, or at least 1.
        class_floor: anchors of at most this weight have no class loss.
        box_floor: anchors of at most this weight have no box loss.
        box: ``giou`` | ``l1``.
        strong: arguments of `StrongView`.
        labeled_ratio, tau, pl_loss, supervised: see `CSD`.
    """

    needs: ClassVar[tuple[str, ...]] = ("anchors",)
    teacher: AnchorDetector | None

    def __init__(
        self,
        weight: float = 1.0,
        ramp: Mapping[str, Any] | None = None,
        burn_in: float = 2 / 90,
        ema: float = 0.999,
        ema_warmup: bool = True,
        gamma: float = 2.0,
        class_floor: float = 0.0,
        box_floor: float = 0.1,
        box: BoxDistance = "giou",
        strong: Mapping[str, Any] | None = None,
        labeled_ratio: float = 0.5,
        tau: float | None = None,
        pl_loss: PseudoLoss = "positives_only",
        supervised: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(**(supervised or {}))
        check_fields(
            locals(),
            {
                "box": one_of(*get_args(BoxDistance)),
                "weight": not_negative,
                **dict.fromkeys(("burn_in", "ema", "class_floor", "box_floor"), below_one),
                **LABELED_PART,
            },
            "objective",
        )
        if gamma != 0:
            number_from(1)(gamma, "objective.gamma", do="0 weighs all alike")
        self.weight, self.ramp, self.burn_in = (
            float(weight),
            Ramp(**cast(dict[str, Any], {"kind": "up_only", "up": 0.25} | dict(ramp or {}))),
            float(burn_in),
        )
        self.ema, self.ema_warmup, self.focus = float(ema), bool(ema_warmup), float(gamma)  # gamma is the focal loss's
        self.class_floor, self.box_floor, self.box_distance = float(class_floor), float(box_floor), box
        self.strong = StrongView(**(strong or {}))
        self.labeled_ratio, self.tau, self.pl_loss = float(labeled_ratio), tau, pl_loss
        self.register_module("teacher", None)
        self._pairs: Recent[ScalePairs] = Recent(SIZES)

    def attach(self, network: AnchorDetector) -> None:
        """Make room for the teacher; learners call this before a checkpoint is read.

        Its weights then have a place.
        """
        if self.weight > 0:
            self.teacher = copy.deepcopy(network).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "SED":
        """Set the mode of everything but the teacher, which only ever predicts."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    @torch.no_grad()
    def follow(self, network: AnchorDetector, updates: int) -> None:
        """Move the teacher towards the student.

        Args:
            network: the student.
            updates: how often the teacher has moved since the end of the burn-in; 0 copies the student, below 0 nothing
                happens.
        """
        if self.teacher is None:
            self.attach(network)
        if updates < 0:
            return
        follow(cast(AnchorDetector, self.teacher), network, self.momentum(updates))

    def momentum(self, updates: int) -> float:
        """Return m of the teacher's n-th step; 0 for n = 0."""
        return momentum(self.ema, updates, self.ema_warmup)

    def first_step(self, total_steps: int) -> int:
        """Return the step at which the burn-in is over."""
        return round(self.burn_in * total_steps)

    def weight_at(self, step: int, total_steps: int) -> float:
        """Return w(t), 0 in the burn-in."""
        return 0.0 if step < self.first_step(total_steps) else self.weight * self.ramp(step, total_steps)

    def forward(self, network: AnchorDetector, batch: Any, step: int, total_steps: int) -> dict[str, Tensor]:
        """Return ``loss`` and its parts for one `Batch`; moves the teacher, so it is called once a step."""
        if self.weight == 0:
            return super().forward(network, batch, step, total_steps)
        self.follow(network, step - self.first_step(total_steps))
        w = self.weight_at(step, total_steps)
        if w == 0:
            nothing = torch.zeros((), device=batch.images.device)
            return (
                super().forward(network, batch, step, total_steps)
                | dict.fromkeys(_PARTS, nothing)
                | {"weight": torch.tensor(w)}
            )
        seed = draw_seed(batch.images)
        rows = batch.places_of(Kind.UNLABELED, Kind.PSEUDO)
        index = sent(torch.tensor(rows, dtype=torch.long), batch.images.device)
        weak = batch.images[index]
        images = batch.images.clone()
        images[index] = self.views(network, batch, rows, Rng(seed, "full"))
        head = network(images)
        parts = self.of_head(network, head, batch)
        same, scaled = self._no_images(head), self._no_images(head)
        if rows:
            target = self.target(weak, batch.valid_hw[rows])
            student = head.rows(index)
            same = self.distill(network, student, target, same_anchors(head))
            half = network(halve(self.views(network, batch, rows, Rng(seed, "half")), network))
            scaled = self.distill(network, half, target, self.pairs(network, head, half))
        losses = [total / global_positives(weight) for total, weight in (same[:2], same[2:4], scaled[:2], scaled[2:4])]
        values = [*(loss.detach() for loss in losses), same[4], scaled[4]]
        return (
            parts
            | dict(zip(_PARTS, values, strict=True))
            | {"loss": parts["loss"] + w * sum(losses), "weight": torch.tensor(w)}
        )

    def views(self, network: AnchorDetector, batch: Any, rows: list[int], rng: Rng) -> Tensor:
        """Return strong views of some images; what is drawn depends on ``rng`` and the image's id.

        Padding stays padding.
        """
        out = batch.images[sent(torch.tensor(rows, dtype=torch.long), batch.images.device)].float()
        with torch.no_grad(), torch.autocast(out.device.type, enabled=False):
            for view, row, (height, width) in zip(out, rows, batch.valid_hw[rows].tolist(), strict=True):
                inside = view[:, :height, :width]
                inside.copy_(self.strong(inside, rng.generator(batch.sample_ids[row]), network.mean, network.std))
        return out.to(batch.images.dtype)

    @torch.no_grad()
    def target(self, images: Tensor, valid_hw: Tensor) -> Target:
        """Return what the teacher sees in the weak views.

        Args:
            images: (B, 3, h, w).
            valid_hw: (B, 2) on the CPU, the part of each that is image and not padding.
        """
        teacher = cast(AnchorDetector, self.teacher)
        head = teacher(images)
        probs = teacher.probs(head.logits)[..., int(teacher.activation == "softmax") :]
        weight = probs.amax(-1)
        if teacher.resize == "keep_ratio":
            end = valid_hw.flip(1).to(head.priors.dtype) / torch.tensor([head.input_hw[1], head.input_hw[0]])
            weight = weight * (head.priors[:, :2] < sent(end, head.priors.device)[:, None]).all(-1)
        return Target(probs, teacher.code.decode(head.deltas, head.priors), weight)

    def pairs(self, network: AnchorDetector, full: HeadOutput, half: HeadOutput) -> ScalePairs:
        """Return which anchors of the half-size view see what anchors of the full-size one see.

        Found once an input size, as long as it is one of the last `SIZES`.
        """

        def find() -> ScalePairs:
            found = scale_pairs(full, half, network.matching.pos_iou)
            if not len(found.half):
                log.warning(
                    "objective sed: no anchor of %s sees at half the size what one of the next level sees; L_scale "
                    "is 0",
                    type(network).__name__,
                )
            return found

        return self._pairs.get((full.input_hw, half.input_hw, full.level_sizes, full.logits.device), find)

    def distill(
        self, network: AnchorDetector, student: HeadOutput, target: Target, pairs: ScalePairs
    ) -> tuple[Tensor, ...]:
        """Return the sums of L_cls over this device's images: weighted losses, weights; the two of L_box.

        Number of anchors in L_box.
        """
        weights = target.weight[:, pairs.full]
        image, pair = (weights > self.class_floor).nonzero(as_tuple=True)
        w, own, its = weights[image, pair], pairs.half[pair], pairs.full[pair]
        classes = soft_focal(student.logits[image, own], target.probs[image, its], network.activation, self.focus)
        image, pair = (weights > self.box_floor).nonzero(as_tuple=True)
        w_box, own, its = weights[image, pair], pairs.half[pair], pairs.full[pair]
        boxes = network.code.decode(student.deltas[image, own], student.priors[own]) * pairs.stretch
        apart = box_distance(boxes, target.boxes[image, its], self.box_distance)
        return (w * classes).sum(), w.sum(), (w_box * apart).sum(), w_box.sum(), torch.tensor(float(len(image)))

    @staticmethod
    def _no_images(head: HeadOutput) -> tuple[Tensor, ...]:
        return (head.logits.new_zeros(()).float(),) * 4 + (torch.zeros(()),)


def draw_seed(like: Tensor) -> int:
    """Draw from torch's generator, which the training seeds by (seed, step); all devices use the first one's."""
    seed = torch.randint(2**62, ())
    if distributed.is_available() and distributed.is_initialized():
        seed = seed.to(like.device)
        distributed.broadcast(seed, 0)
    return int(seed)
