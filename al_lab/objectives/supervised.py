"""Plain supervised detection losses: SSD's MultiBox and RetinaNet's focal loss, over all images and anchors at once.

The pieces (`targets_of`, `multibox_terms`, `focal_terms`) return per-image sums, so that semi-supervised objectives can
weigh labeled, pseudo-labeled and unlabeled images differently. Shapes: B images, P anchors, K logits, N positives.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from al_lab.core.errors import ConfigError, explain
from al_lab.core.fields import check_fields, not_negative, one_of
from al_lab.data.device import constant, sent
from al_lab.data.loading.batch import Kind
from al_lab.models.detectors.boxes import BACKGROUND, has_area, match
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.network import AnchorDetector
from al_lab.objectives.reduce import global_positives


@dataclass(frozen=True)
class Targets:
    """What the anchors of a batch should predict.

    Attributes:
        assigned: (B, P) int64 from `match`: index of the box, `BACKGROUND` or `IGNORED`.
        image, anchor: (N,) int64, where the positives are.
        label: (N,) int64 their classes, 0..C-1.
        deltas: (N, 4) their encoded boxes.
    """

    assigned: Tensor
    image: Tensor
    anchor: Tensor
    label: Tensor
    deltas: Tensor

    @property
    def num_positives(self) -> Tensor:
        """(B,) positives of each image."""
        return (self.assigned >= 0).sum(1)


@dataclass(frozen=True)
class Terms:
    """Per-image sums, each (B,): class loss of positive and of negative anchors, box loss, number of positives."""

    class_positive: Tensor
    class_negative: Tensor
    box: Tensor
    num_positives: Tensor


def targets_of(
    network: AnchorDetector,
    head: HeadOutput,
    boxes_px: Tensor,
    labels: Tensor,
    valid_hw: Tensor | None = None,
) -> Targets:
    """Match the anchors of each image with its boxes.

    Args:
        network: gives coder and thresholds.
        head: its output, for anchors and input size.
        boxes_px: (B, G, 4) xyxy in input pixels; boxes without area don't count.
        labels: (B, G), 0..C-1.
        valid_hw: (B, 2) on the CPU, the part of each input that is image; anchors beyond it (rounded up to the
            network's padding) are ignored.
    """
    height, width = head.input_hw
    boxes = boxes_px / constant((width, height, width, height), boxes_px)
    usable = None
    if valid_hw is not None and network.resize == "keep_ratio":
        end = torch.ceil(valid_hw / network.pad_divisor) * network.pad_divisor / constant((height, width), valid_hw)
        end = sent(end.flip(1).to(head.priors.dtype), head.priors.device)
        usable = (head.priors[:, :2] < end[:, None]).all(-1)
    assigned = match(boxes, has_area(boxes_px), head.priors, network.matching, usable=usable)
    image, anchor = (assigned >= 0).nonzero(as_tuple=True)
    box = assigned[image, anchor]
    deltas = network.code.encode(boxes[image, box], head.priors[anchor])
    return Targets(assigned, image, anchor, labels[image, box], deltas)


def per_image(values: Tensor, image: Tensor, num_images: int) -> Tensor:
    """Return (B,): the sums of values (N,) over each image."""
    return values.new_zeros(num_images).index_add(0, image, values)


def box_terms(deltas: Tensor, targets: Targets, kind: Literal["smooth_l1", "l1"], beta: float) -> Tensor:
    """Return (B,): box loss summed over each image's positives and the four numbers."""
    predicted = deltas[targets.image, targets.anchor].float()
    if kind == "l1":
        loss = F.l1_loss(predicted, targets.deltas, reduction="none")
    else:
        loss = F.smooth_l1_loss(predicted, targets.deltas, reduction="none", beta=beta)
    return per_image(loss.sum(-1), targets.image, len(deltas))


def hard_negatives(logits: Tensor, targets: Targets, ratio: float) -> tuple[Tensor, Tensor]:
    """Choose the negatives that look least like background: per image, ``ratio`` times its positives.

    Returns:
        image, anchor: (M,) int64 each.
    """
    with torch.no_grad():
        scores = logits.detach().float()
        return hardest(scores.logsumexp(-1) - scores[..., 0], targets, ratio)


def hardest(hardness: Tensor, targets: Targets, ratio: float) -> tuple[Tensor, Tensor]:
    """Return image and anchor, (M,) int64 each, of the negatives of largest (B, P) loss, see `hard_negatives`."""
    with torch.no_grad():
        candidate = targets.assigned == -1
        hardness = hardness.detach().masked_fill(~candidate, -torch.inf)
        wanted = (ratio * targets.num_positives).long().minimum(candidate.sum(1))
        by_hardness = hardness.sort(dim=1, descending=True, stable=True).indices
        chosen = torch.arange(by_hardness.shape[1], device=hardness.device) < wanted[:, None]
        image, rank = chosen.nonzero(as_tuple=True)
        return image, by_hardness[image, rank]


def multibox_terms(
    logits: Tensor,
    deltas: Tensor,
    targets: Targets,
    negative_ratio: float = 3.0,
    box_loss: Literal["smooth_l1", "l1"] = "smooth_l1",
    beta: float = 1.0,
) -> Terms:
    """SSD's MultiBox loss as per-image sums (Liu et al., ECCV 2016, Sec. 2.2).

    Cross-entropy of positives and of the hardest negatives, smooth L1 of positives. An image without positives
    contributes nothing. Only the anchors concerned enter the graph.

    Args:
        logits: (B, P, C + 1), column 0 background.
        deltas: (B, P, 4).
        targets: from `targets_of`.
        negative_ratio: mined negatives per positive.
        box_loss: kind of the box loss.
        beta: where smooth L1 turns linear.
    """
    num_images = len(logits)
    positive = F.cross_entropy(logits[targets.image, targets.anchor].float(), targets.label + 1, reduction="none")
    image, anchor = hard_negatives(logits, targets, negative_ratio)
    negative = F.cross_entropy(logits[image, anchor].float(), torch.zeros_like(image), reduction="none")
    return Terms(
        per_image(positive, targets.image, num_images),
        per_image(negative, image, num_images),
        box_terms(deltas, targets, box_loss, beta),
        targets.num_positives,
    )


def focal_terms(
    logits: Tensor,
    deltas: Tensor,
    targets: Targets,
    gamma: float = 2.0,
    alpha: float = 0.25,
    box_loss: Literal["smooth_l1", "l1"] = "l1",
    beta: float = 1.0,
) -> Terms:
    """Sigmoid focal loss as per-image sums (Lin et al., ICCV 2017, Eq. 5); no one-hot tensor is built.

    A positive anchor's class loss has all its C entries: its own class and the ones it isn't.

    Args:
        logits: (B, P, C).
        deltas: (B, P, 4).
        targets: from `targets_of`; ignored anchors carry no class loss.
        gamma: focusing parameter.
        alpha: weight of positives.
        box_loss: kind of the box loss.
        beta: where smooth L1 turns linear.
    """
    num_images = len(logits)
    logits = logits.float()
    counted = (targets.assigned == BACKGROUND).to(logits.dtype)
    at_positives = logits[targets.image, targets.anchor]
    hit = at_positives.gather(1, targets.label[:, None]).squeeze(1)
    positive = alpha * (1 - hit.sigmoid()).pow(gamma) * F.softplus(-hit)
    others = focal_negative(at_positives, gamma, alpha).sum(-1) - focal_negative(hit, gamma, alpha)
    return Terms(
        per_image(positive + others, targets.image, num_images),
        (focal_negative(logits, gamma, alpha).sum(-1) * counted).sum(1),
        box_terms(deltas, targets, box_loss, beta),
        targets.num_positives,
    )


def focal_negative(logits: Tensor, gamma: float, alpha: float) -> Tensor:
    """Return the focal loss of yes/no questions whose answer is no, elementwise."""
    return (1 - alpha) * logits.sigmoid().pow(gamma) * F.softplus(logits)


_DEFAULTS = {
    "loss": "auto",
    "negative_ratio": 3.0,
    "gamma": 2.0,
    "alpha": 0.25,
    "box_loss": "auto",
    "beta": 1.0,
    "box_weight": 1.0,
}


class Supervised(nn.Module):
    """The ordinary detection loss on labeled images; images of kind 0 (unlabeled) don't enter.

    A detector with a loss of its own (`Detector.loss`) keeps that; none of the arguments is for it.

    Images with pseudo-labels (kind 2) enter with their positive anchors only: what a model did not find may be there
    all the same, so nothing in them is taken for background (AL-SSL, Elezi et al., CVPR 2022, Sec. 3.3).

    Args:
        loss: ``multibox`` (softmax heads), ``focal`` (sigmoid heads), or ``auto`` by the network's activation.
        negative_ratio: MultiBox's mined negatives per positive.
        gamma, alpha: the focal loss's.
        box_loss: ``smooth_l1``, ``l1``, or ``auto``: smooth L1 with MultiBox and L1 with focal, as mmdet's configs have
            it.
        beta: where smooth L1 turns linear.
        box_weight: weight of the box loss.
    """

    task: ClassVar[str] = "detection"

    def __init__(
        self,
        loss: Literal["auto", "multibox", "focal"] = "auto",
        negative_ratio: float = 3.0,
        gamma: float = 2.0,
        alpha: float = 0.25,
        box_loss: Literal["auto", "smooth_l1", "l1"] = "auto",
        beta: float = 1.0,
        box_weight: float = 1.0,
    ) -> None:
        given = dict(locals())
        super().__init__()
        check_fields(
            given,
            {
                "loss": one_of("auto", "multibox", "focal"),
                "box_loss": one_of("auto", "smooth_l1", "l1"),
                **dict.fromkeys(("negative_ratio", "gamma", "alpha", "beta", "box_weight"), not_negative),
            },
            "objective",
        )
        self._changed = [name for name, value in _DEFAULTS.items() if given[name] != value]
        self.loss, self.box_loss = loss, box_loss
        self.negative_ratio, self.gamma, self.alpha = negative_ratio, gamma, alpha
        self.beta, self.box_weight = beta, box_weight

    # of images with pseudo-labels; objectives that have such set it
    pl_loss: Literal["positives_only", "all"] = "positives_only"

    def terms(self, network: AnchorDetector, head: HeadOutput, targets: Targets) -> Terms:
        """Return the per-image sums of the loss that fits the network."""
        fitting = {"softmax": "multibox", "sigmoid": "focal"}.get(network.activation)
        loss = (fitting or "focal") if self.loss == "auto" else self.loss
        if loss != fitting:
            fits = {"multibox": "softmax", "focal": "sigmoid"}[loss]
            raise ConfigError(
                explain(
                    expected=f"a {fits} head for loss={loss}",
                    got=f"{type(network).__name__} with {network.activation}",
                    where="objective.loss",
                    do="set objective.loss=auto" if fitting else "set objective=evidential, which trains such a head",
                )
            )
        if loss == "multibox":
            kind = "smooth_l1" if self.box_loss == "auto" else self.box_loss
            return multibox_terms(head.logits, head.deltas, targets, self.negative_ratio, kind, self.beta)
        kind = "l1" if self.box_loss == "auto" else self.box_loss
        return focal_terms(head.logits, head.deltas, targets, self.gamma, self.alpha, kind, self.beta)

    def normalizer(self, network: AnchorDetector, num_positives: Tensor) -> Tensor:
        """Return what the sums are divided by: all positives of the global batch.

        Without a background class an image without positives counts as one, as in mmdet; SSD's N counts none.
        """
        return global_positives(num_positives if network.activation == "softmax" else num_positives.clamp(min=1))

    def beside(self, network: AnchorDetector, head: HeadOutput, targets: Targets, terms: Terms) -> dict[str, Tensor]:
        """Return what else is minimized of labeled images, named as in what `forward` returns; by default nothing."""
        return {}

    def attach(self, network: Any) -> None:
        """Refuse settings that a network with a loss of its own would not read, and branches that nothing would train.

        Learners call this before a training.

        Raises:
            ConfigError: naming the first.
        """
        if isinstance(network, AnchorDetector):
            self._check_branches(network)
            return
        if not self._changed:
            return
        raise ConfigError(
            explain(
                expected=f"a detector whose loss is the objective's, for objective.{self._changed[0]}",
                got=f"{type(network).__name__}, which has a loss of its own",
                where=f"objective.{self._changed[0]}",
                do="leave it at its default; what a detector's own loss weighs, its own options say",
            )
        )

    def _check_branches(self, network: AnchorDetector) -> None:
        options = {cls.__module__.rpartition(".")[2] for cls in type(self).__mro__}
        for name in network.branches:
            trained_by = network.branch(name).trained_by
            if trained_by and trained_by not in options:
                raise ConfigError(
                    explain(
                        expected=f"objective={trained_by}, which trains the branch {name}",
                        got=type(self).__name__,
                        where="objective",
                        do=f"set objective={trained_by}, or leave {name} out of detector.branches",
                    )
                )

    def forward(self, network: Any, batch: Any, step: int, total_steps: int) -> dict[str, Tensor]:
        """Return ``loss`` and its parts for one `Batch`."""
        rows = batch.places_of(Kind.LABELED, Kind.PSEUDO)
        used = batch.rows(rows) if rows and len(rows) < len(batch) else batch
        if not isinstance(network, AnchorDetector):
            own: dict[str, Tensor] = network.loss(used)
            return own
        with network.knowing_padding(used.images, used.valid_hw):
            head = network(used.images)
        return self.of_head(network, head, used)

    def of_head(self, network: AnchorDetector, head: HeadOutput, batch: Any) -> dict[str, Tensor]:
        """Return ``loss`` and its parts for a `Batch` whose predictions exist already."""
        rows = batch.places_of(Kind.LABELED, Kind.PSEUDO)
        if not rows:
            nothing = torch.zeros((), device=batch.images.device)
            global_positives(nothing)  # every process takes part in every reduction, and reports the same names
            return {
                "loss": (head.logits.sum() + head.deltas.sum()) * 0.0,
                "loss_class": nothing,
                "loss_box": nothing,
                "num_positives": nothing,
            }
        if len(rows) < len(batch):
            batch, index = batch.rows(rows), sent(rows, head.logits.device)
            head = head.rows(index)
        targets = targets_of(network, head, batch.boxes, batch.labels, batch.valid_hw)
        terms = self.terms(network, head, targets)
        count = self.normalizer(network, terms.num_positives)
        negative = terms.class_negative
        if self.pl_loss == "positives_only" and batch.places_of(Kind.PSEUDO):
            negative = negative * sent((batch.kind != Kind.PSEUDO).to(negative.dtype), negative.device)
        classes = (terms.class_positive.sum() + negative.sum()) / count
        boxes = self.box_weight * terms.box.sum() / count
        beside = self.beside(network, head, targets, terms)
        return {
            "loss": torch.stack([classes + boxes, *beside.values()]).sum() if beside else classes + boxes,
            "loss_class": classes.detach(),
            "loss_box": boxes.detach(),
            "num_positives": terms.num_positives.sum().float(),
            **{name: value.detach() for name, value in beside.items()},
        }
