"""MI-AOD's training: two classifiers that part and meet again on unlabeled images, in phases by the step."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from al_lab.acquisition.boxes.disagreement import classes_seen, image_probs, instance_weights
from al_lab.core.errors import ConfigError, explain
from al_lab.core.fields import at_least, check_fields, flag, fraction, not_negative, positive, share
from al_lab.data.device import sent
from al_lab.data.loading.batch import Batch, Kind
from al_lab.models.detectors.boxes import has_area
from al_lab.models.detectors.branches.two_heads import TwoHeadsBranch
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.network import AnchorDetector
from al_lab.objectives.reduce import global_positives, num_processes, of_all_processes
from al_lab.objectives.supervised import Supervised, Targets, Terms

Phase = Literal["label", "min", "max"]
_ROUNDING = 1e-6


def borders(passes: Sequence[float], total_steps: int) -> list[int]:
    """Return the step before which each phase ends; the last one is ``total_steps``."""
    whole = sum(passes)
    return [int(done / whole * total_steps + _ROUNDING) for done in itertools.accumulate(passes)]


def disagreement(p_BPC: Tensor, q_BPC: Tensor, weights_BPC: Tensor, phase: Phase) -> Tensor:
    """Return (B,): sum_i mean_c D_ic y_ic to be minimized, or of (1 - D_ic) y_ic (``max``); D = |p - q|.

    The weights y are fixed.
    """
    gap = (p_BPC - q_BPC).abs()
    return ((1 - gap if phase == "max" else gap) * weights_BPC.detach()).mean(-1).sum(1)


class MultipleInstance(Supervised):
    """Discrepant classifiers and multiple instance learning.

    Yuan et al., "Multiple Instance Active Learning for Object Detection", CVPR 2021; code yuantn/MI-AOD at 320b5cd.
    With z1, z2 the classifiers f1 (the detector's own) and f2, m the multiple instance classifier, D = |p1 - p2|:

        y_ic  = softmax_c(m_i)_c softmax_i(max_c sigma((z1 + z2)/2)_ic),   Y_c = max_levels sum_i y_ic      Eq. 4
        L_img = BCE(Y, t),   t: the image's classes; if unlabeled [max_i (sigma(z1) + sigma(z2))_ic / 2 >= .5]  Eq. 5
        L_det = 1/2 (L_class(z1) + L_class(z2)) + L_box

        label   L_det + L_img                       on labeled images; everything learns
        min     that + L_img(U) + lambda sum_i mean_c D_ic y_ic(U)                  all but f1, f2 learn    Eq. 6-8
        max     L_det + lambda sum_i mean_c (1 - D_ic) y_ic(U)                      f1 and f2 alone learn   Eq. 9

    | symbol | argument | default | where |
    |---|---|---|---|
    | lambda | weight | 0.5 | released code |
    | label, min, max, label, … | passes | 6, 2, 2, 6, 2, 2, 6 | released code, RetinaNet; SSD 80, 16, 16, … |
    | warm-up of each phase | warmup_iters | 0 | released code: 500 steps from .001 on SSD and COCO |
    | a new optimizer each phase | reset_momentum | false | ours; the released code: true |
    | p of softmax heads | | softmax with background | released code |
    | | as_released | false | see below |

    The sums run over all anchors, levels and images of a batch, as in the released code. Its order of min and max is
    the other way round than the paper's; its author finds that hardly matters.

    What does not learn in a phase has no gradient at all, so momentum and decay leave it as it is. Running statistics
    of norms, where a network has such, go on in every phase.

    Deviations: a batch is half unlabeled in min and max, with the sum of the losses; the released code steps on a
    labeled and on an unlabeled batch in turn. The released code counts SSD's background as a class of L_img and of the
    disagreement (its pseudo label is nearly always 1; a labeled image's is 0 here, which we did not find said), and if
    one unlabeled image shows no class, all of a batch have no L_img. So does ``as_released``; otherwise background is
    no class, and only an image that shows none has no L_img.

    Args:
        weight: of the disagreement.
        passes: lengths of the phases label, min, max, label, … , label, as shares of the training.
        warmup_iters: steps over which the rate rises, at the begin of each phase.
        warmup_ratio: from which share.
        reset_momentum: the optimizer forgets at the begin of each phase.
        as_released: see above.
        labeled_ratio: part of a batch that is labeled.
        supervised: arguments of `Supervised`.
    """

    needs: ClassVar[tuple[str, ...]] = ("anchors",)
    has_unused = True
    # X_U of a training: as many unlabeled images as labeled ones, released code
    draws_as_many = True

    def __init__(
        self,
        weight: float = 0.5,
        passes: Sequence[float] = (6, 2, 2, 6, 2, 2, 6),
        warmup_iters: int = 0,
        warmup_ratio: float = 0.001,
        reset_momentum: bool = False,
        as_released: bool = False,
        labeled_ratio: float = 0.5,
        supervised: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(**(supervised or {}))
        check_fields(
            locals(),
            {
                "weight": not_negative,
                "warmup_iters": at_least(0),
                "warmup_ratio": fraction,
                **dict.fromkeys(("reset_momentum", "as_released"), flag),
                "labeled_ratio": share,
            },
            "objective",
        )
        self.passes = [float(positive(n, f"objective.passes[{k}]")) for k, n in enumerate(passes)]
        if len(self.passes) % 3 != 1:
            raise ConfigError(
                explain(
                    expected="lengths of label, then of min, max and label, once or more",
                    got=f"{len(self.passes)} lengths",
                    where="objective.passes",
                    do="e.g. [6, 2, 2, 6, 2, 2, 6]",
                )
            )
        self.weight, self.labeled_ratio = float(weight), float(labeled_ratio)
        self.reset_momentum, self.as_released = bool(reset_momentum), bool(as_released)
        self.warmup_iters, self.warmup_ratio = int(warmup_iters), float(warmup_ratio)
        self._learns: list[tuple[torch.nn.Parameter, bool]] = []

    def attach(self, network: Any) -> None:
        """Refuse a network without the two heads, or whose own classifier is not known.

        Raises:
            ConfigError: saying what to set.
        """
        super().attach(network)
        network.branch("two_heads")
        network.class_modules()

    # --- phases: functions of the step ---

    def phase_at(self, step: int, total_steps: int) -> tuple[Phase, int]:
        """Return the phase of a step, and the step it began with."""
        ends = borders(self.passes, total_steps)
        number = min(sum(step >= end for end in ends), len(ends) - 1)
        names: tuple[Phase, Phase, Phase] = ("label", "min", "max")
        return names[number % 3], ([0, *ends])[number]

    def labeled_only(self, step: int, total_steps: int) -> bool:
        """Whether a step looks at labeled images alone."""
        return self.phase_at(step, total_steps)[0] == "label"

    def lr_factor(self, step: int, total_steps: int) -> float:
        """Return what the learning rate of a step is multiplied by: each phase warms up again."""
        done = step - self.phase_at(step, total_steps)[1]
        if done >= self.warmup_iters:
            return 1.0
        return self.warmup_ratio + (1 - self.warmup_ratio) * done / self.warmup_iters

    def starts_anew(self, step: int, total_steps: int) -> bool:
        """Whether the optimizer forgets before a step."""
        return self.reset_momentum and step == self.phase_at(step, total_steps)[1]

    def let_learn(self, network: AnchorDetector, phase: Phase) -> None:
        """Let the gradients of what does not learn in this phase be absent."""
        if not self._learns:
            branch = network.branch("two_heads")
            assert isinstance(branch, TwoHeadsBranch)
            modules = [*network.class_modules(), branch.second]
            classifiers = {id(p) for module in modules for p in module.parameters()}
            self._learns = [(p, id(p) in classifiers) for p in network.parameters() if p.requires_grad]
        for parameter, is_classifier in self._learns:
            parameter.requires_grad_(phase == "label" or is_classifier == (phase == "max"))

    # --- losses ---

    def forward(self, network: AnchorDetector, batch: Any, step: int, total_steps: int) -> dict[str, Tensor]:
        """Return ``loss`` and its parts for one `Batch`."""
        phase, _ = self.phase_at(step, total_steps)
        self.let_learn(network, phase)
        rows = batch.places_of(Kind.LABELED)
        if phase == "label" and rows:
            batch, rows = batch.rows(rows), list(range(len(rows)))
        head = network(batch.images)
        parts = self.of_head(network, head, batch)
        labeled, free = (_of_images(head, places) for places in (rows, batch.places_of(Kind.UNLABELED)))
        found = torch.zeros((), device=head.logits.device)
        if phase != "max":
            target = classes_of(batch.rows(rows), network.num_classes)
            found = self.image_loss(network, labeled, self.with_background(network, target))
        if phase == "min":
            first, second = (self.classes(network, z) for z in (free.logits, free.extra["logits2"]))
            seen = classes_seen(first, second)
            if self.as_released:
                seen = seen * (of_all_processes(~seen.any(1)) == 0)
            found = found + self.image_loss(network, free, seen)
        apart = torch.zeros_like(found)
        if phase != "label":
            apart = self.weight * num_processes() * self.gap(network, free, phase).sum()
        return parts | {
            "loss": parts["loss"] + found + apart,
            "loss_image": found.detach(),
            f"disagreement_{phase}": apart.detach(),
        }

    def terms(self, network: AnchorDetector, head: HeadOutput, targets: Targets) -> Terms:
        """See `Supervised.terms`: the mean of both classifiers' class losses."""
        first, second = (
            super(MultipleInstance, self).terms(network, head._replace(logits=logits), targets)
            for logits in (head.logits, head.extra["logits2"])
        )
        return Terms(
            (first.class_positive + second.class_positive) / 2,
            (first.class_negative + second.class_negative) / 2,
            first.box,
            first.num_positives,
        )

    def weights(self, network: AnchorDetector, head: HeadOutput) -> Tensor:
        """Return y, (B, P, C)."""
        mean, instances = (head.logits + head.extra["logits2"]) / 2, head.extra["instances"]
        return instance_weights(self.classes(network, instances), self.classes(network, mean), head.level_sizes)

    def image_loss(self, network: AnchorDetector, head: HeadOutput, target_BC: Tensor) -> Tensor:
        """Return L_img: the mean over the global batch's images in which some class is."""
        probs = image_probs(self.weights(network, head), head.level_sizes)
        has_class = target_BC.any(1).float()
        losses = -(target_BC * probs.log() + (1 - target_BC) * (1 - probs).log()).mean(1)
        return (losses * has_class).sum() / global_positives(has_class)

    def gap(self, network: AnchorDetector, head: HeadOutput, phase: Phase) -> Tensor:
        """Return the disagreement to be minimized of each image, (B,)."""
        p, q = (self.classes(network, network.probs(z)) for z in (head.logits, head.extra["logits2"]))
        return disagreement(p, q, self.weights(network, head), phase)

    def classes(self, network: AnchorDetector, values: Tensor) -> Tensor:
        """Return the columns that are classes of an image."""
        return values[..., int(network.activation == "softmax" and not self.as_released) :]

    def with_background(self, network: AnchorDetector, target_BC: Tensor) -> Tensor:
        """Return labels with a column for each of `classes`."""
        return F.pad(target_BC, (int(network.activation == "softmax" and self.as_released), 0))


def classes_of(batch: Batch, num_classes: int) -> Tensor:
    """Return (B, C) of 0 and 1: which classes the boxes of each image have."""
    there = has_area(batch.boxes).float()
    return torch.zeros(len(batch), num_classes, device=there.device).scatter_reduce(1, batch.labels, there, "amax")


def _of_images(head: HeadOutput, places: Sequence[int]) -> HeadOutput:
    return head.rows(sent(torch.tensor(list(places), dtype=torch.long), head.logits.device))
