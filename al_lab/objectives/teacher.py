"""Self-training for domain adaptation: a slow teacher labels target images, and the student learns from mixed ones."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from al_lab.core.errors import ConfigError, explain
from al_lab.core.fields import at_least, below_one, check_fields, flag, list_of, not_negative, optional
from al_lab.core.rng import Rng
from al_lab.data.transforms.dense_view import COLORS, colored, turned
from al_lab.data.transforms.scale_crop_flip import ScaleCropFlip
from al_lab.data.transforms.strong import StrongView
from al_lab.models.segmenters.segmenter import SegmenterNetwork, upsample
from al_lab.objectives.adapt import CROSS_ENTROPIES, Adaptation
from al_lab.objectives.ema import follow, momentum
from al_lab.objectives.mixing import class_mask, kept_blocks, mixed, pseudo_labels, weighted_cross_entropy
from al_lab.objectives.sed import draw_seed


class Teacher(Adaptation):
    """What `Adaptation` minimizes, and two losses on target images that a teacher labels; bought labels are among them.

    Class mix with confidences as in DACS (Tranheden et al., WACV 2021), masked views as in MIC (Hoyer et al., CVPR
    2023; Apache-2.0, settings from its released configuration, no code). With S the student, T the teacher, y and q
    labels and weights of a target image x_t (`pseudo_labels`; where a label was bought, that label with weight 1)

        T       <- m T + (1 - m) S                                    after each step; p_T = softmax T(x_t)
        L_mix   =  mean over pixels of w CE(S(colors(M x_s + (1 - M) x_t)), M y_s + (1 - M) y),   w = 1 in M, else q
        L_mask  =  mean over pixels of q CE(S(K colors(x_t)), y)                                  K: blocks kept
        L       =  L_adaptation + mix L_mix + masked L_mask

    M are the pixels of half of the classes of the source image's labels. All images are first rescaled, cropped and
    flipped with their labels; sources take the target's size, or all take that of a crop.

    | symbol | argument | default | where |
    |---|---|---|---|
    | m | ema | 0.999 | MIC's configuration |
    | m at first | ema_warmup | min(m, (n + 1) / (n + 10)) | UNSPECIFIED |
    | threshold of q | threshold | 0.968 | MIC's configuration |
    | weights | mix, masked | 1, 1 | MIC's configuration: equal weight |
    | K | mask_ratio, mask_block_px | 0.7, 64 | MIC's configuration, for crops of 1024 x 1024 |
    | rescale, crop, flip | geometry | 1 to 2, half of all mirrored | UNSPECIFIED: MIC crops without rescaling |
    | colors | strong | jitter of strength 0.2, blur | MIC's configuration; probabilities and blur UNSPECIFIED |

    Deviations: one network at one scale where MIC's has two; no rare-class sampling by temperature (the source is
    balanced as RIPU's, see `Adaptation`), no distance to ImageNet's features, no ignored margins of pseudo-labels;
    void takes part in no mix. The teacher is in evaluation mode, and the student is what is evaluated. Without source
    images there is nothing to mix in: L_mix is then on the target's changed colors.

    Args:
        mix, masked: weights, >= 0; 0: not computed.
        threshold: see above.
        ema, ema_warmup: see above.
        mask_ratio, mask_block_px: share of blocks taken out, and their side.
        geometry: arguments of `ScaleCropFlip`; None: its defaults.
        crop_hw: size of what comes out of it, [height, width]; None: the target's.
        strong: arguments of `StrongView` on top of MIC's.
        adaptation: arguments of `Adaptation`; None: cross-entropies of source and bought pixels alone.
    """

    teacher: SegmenterNetwork | None

    def __init__(
        self,
        mix: float = 1.0,
        masked: float = 1.0,
        threshold: float = 0.968,
        ema: float = 0.999,
        ema_warmup: bool = True,
        mask_ratio: float = 0.7,
        mask_block_px: int = 64,
        geometry: Mapping[str, Any] | None = None,
        strong: Mapping[str, Any] | None = None,
        adaptation: Mapping[str, Any] | None = None,
        crop_hw: Sequence[int] | None = None,
    ) -> None:
        super().__init__(**cast(dict[str, Any], CROSS_ENTROPIES | dict(adaptation or {})))
        check_fields(
            locals(),
            {
                **dict.fromkeys(("mix", "masked"), not_negative),
                **dict.fromkeys(("threshold", "ema", "mask_ratio"), below_one),
                "mask_block_px": at_least(1),
                "ema_warmup": flag,
            },
            "objective",
        )
        if not (mix or masked):
            raise ConfigError(
                explain(
                    expected="a loss for the teacher's labels",
                    got="mix=0 and masked=0",
                    where="objective",
                    do="set one of them, or use objective=segment",
                )
            )
        self.mix, self.masked, self.threshold = float(mix), float(masked), float(threshold)
        self.ema, self.ema_warmup = float(ema), bool(ema_warmup)
        self.mask_ratio, self.mask_block_px = float(mask_ratio), int(mask_block_px)
        pair = optional(list_of(at_least(1), length=2))
        self.crop_hw = pair(None if crop_hw is None else list(crop_hw), "objective.crop_hw", do="[1024,1024], or null")
        self.geometry = ScaleCropFlip(**(geometry or {}))
        self.strong = StrongView(**cast(dict[str, Any], {**COLORS, **(strong or {})}))
        self.register_module("teacher", None)

    @property
    def uses_unlabeled(self) -> bool:
        """Every target image has the teacher's labels."""
        return True

    def attach(self, network: SegmenterNetwork) -> None:
        """Make room for the teacher; learners call this before a checkpoint is read."""
        super().attach(network)
        self.teacher = copy.deepcopy(network).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Teacher":
        """Set the mode of everything but the teacher, which only ever predicts."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def forward(self, network: SegmenterNetwork, batch: Any, step: int, total_steps: int) -> dict[str, Tensor]:
        """Return ``loss`` and its parts for one `DenseBatch`; moves the teacher, so it is called once a step."""
        if self.teacher is None:
            self.attach(network)
        teacher = cast(SegmenterNetwork, self.teacher)
        follow(teacher, network, momentum(self.ema, step, self.ema_warmup))
        images = batch.target_images if batch.target_images is not None else batch.source_images
        rng = Rng(draw_seed(images), "views")
        height, width = self.crop_hw or images.shape[2:]
        batch = turned(batch, self.geometry, (height, width), rng)
        parts = super().forward(network, batch, step, total_steps)
        if batch.target_images is None:
            return parts
        with torch.no_grad():
            logits = upsample(teacher(batch.target_images).logits, batch.target_images.shape[2:])
            labels, weights = pseudo_labels(logits.softmax(1), batch.target_labels, self.threshold)
        losses = {}
        if self.mix:
            losses["mix"] = self.of_mixed(network, batch, labels, weights, rng)
        if self.masked:
            losses["masked"] = self.of_masked(network, batch, labels, weights, rng)
        total = sum((getattr(self, name) * value for name, value in losses.items()), parts["loss"])
        confident = weights.mean().detach()
        return parts | {k: v.detach() for k, v in losses.items()} | {"loss": total, "teacher_weight": confident}

    def of_mixed(self, network: SegmenterNetwork, batch: Any, labels: Tensor, weights: Tensor, rng: Rng) -> Tensor:
        """Return L_mix; target image k gets classes of the source image at the same part of the batch."""
        images, ids = batch.target_images, batch.sample_ids[-len(batch.target_images) :]
        if batch.source_images is not None:
            num, of = len(batch.source_images), len(images)
            pairs = torch.tensor([k * num // of for k in range(of)], device=images.device)
            theirs = batch.source_labels[pairs]
            mask = torch.stack([class_mask(y, rng.generator("mix", i)) for y, i in zip(theirs, ids, strict=True)])
            images = mixed(mask, batch.source_images[pairs], images)
            labels, weights = mixed(mask, theirs, labels), mixed(mask, torch.ones_like(weights), weights)
        views = colored(images, ids, self.strong, rng.child("mix"), network.mean, network.std)
        logits = upsample(network(views).logits, images.shape[2:])
        return weighted_cross_entropy(logits, labels, weights)

    def of_masked(self, network: SegmenterNetwork, batch: Any, labels: Tensor, weights: Tensor, rng: Rng) -> Tensor:
        """Return L_mask; what is taken out has the network's mean color."""
        images, ids = batch.target_images, batch.sample_ids[-len(batch.target_images) :]
        size_hw = (images.shape[2], images.shape[3])
        kept = [kept_blocks(size_hw, self.mask_ratio, self.mask_block_px, rng.generator("blocks", i)) for i in ids]
        views = colored(images, ids, self.strong, rng.child("masked"), network.mean, network.std)
        views = views * torch.stack([torch.from_numpy(k) for k in kept]).to(views)[:, None]
        return weighted_cross_entropy(upsample(network(views).logits, size_hw), labels, weights)
