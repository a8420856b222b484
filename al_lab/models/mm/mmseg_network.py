"""Any encoder-decoder of mmsegmentation, named by its model dict, as a `SegmenterNetwork`.

mmsegmentation gives backbone, neck and decode head; loss, upsampling to pixels and the mean over a flipped image are
ours.
"""

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from al_lab.core.errors import ConfigError, explain
from al_lab.models.imagenet import IMAGENET_MEAN, IMAGENET_STD
from al_lab.models.mm.registry import build_module, init_weights, plain, take_pretrained
from al_lab.models.segmenters.segmenter import SegmenterNetwork, SegmenterOutput
from al_lab.models.weights import Normalization, load_pretrained

log = logging.getLogger(__name__)
_PROBE_PX = 64


class MMSegNetwork(SegmenterNetwork):
    """An mmsegmentation ``EncoderDecoder`` whose decode head returns one map of class logits.

    FCN, PSP, ASPP and SegFormer have such heads.

    BatchNorm keeps the meaning it has in the dict: where it trains (no ``norm_eval``) it sees source and target images
    in turn.

    Args:
        num_classes: C; replaces the dict's own number.
        model: mmsegmentation's model dict. ``data_preprocessor`` gives mean, std and channel order; losses,
            ``auxiliary_head`` and ``test_cfg`` have no effect.
        weights: pretrained backbone: a file, ``torchvision://name`` or a URL; null starts from random. A ``Pretrained``
            init_cfg of the backbone, or ``pretrained``, means the same.
        backbone_map: which of the backbone's maps density branch and embedding read; -1 is the last.
        branch: options of `DensityBranch`; None: no branch.
        head_lr: factor on the learning rate of everything but the backbone.
        cache_dir: where downloaded weights are kept.

    Raises:
        ConfigError: if the dict names something that is not such a network.
        WeightsError: if the weights can't be had or don't fit.
    """

    provides: tuple[str, ...] = ("dense_probs", "class_probs", "image_embedding", "pixel_features", "pixel_error")

    def __init__(
        self,
        num_classes: int,
        model: Mapping[str, Any],
        weights: str | None = None,
        backbone_map: int = -1,
        branch: Mapping[str, Any] | None = None,
        head_lr: float = 10.0,
        cache_dir: str | None = None,
    ) -> None:
        settings: dict[str, Any] = plain(model)
        preprocess = settings.pop("data_preprocessor", None) or {}
        swap = not preprocess.get("bgr_to_rgb", True)
        mean, std = (
            tuple(preprocess.get(k, v))[:: -1 if swap and k in preprocess else 1]
            for k, v in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD))
        )
        weights = weights or take_pretrained(settings) or settings.get("pretrained")
        settings.pop("pretrained", None)
        super().__init__(num_classes, mean=mean, std=std, head_lr=head_lr)
        segmentor: Any = _build(settings, self.num_classes)
        self.backbone, self.neck, self.head = (
            segmentor.backbone,
            getattr(segmentor, "neck", None),
            segmentor.decode_head,
        )
        self.backbone_map, self._swap = int(backbone_map), swap
        channels = self._probe(f"segmenter.model ({type(self.head).__name__})")
        if weights:
            load_pretrained(self.backbone, weights, cache_dir, Normalization(self.mean, self.std, swap))
        self.add_branch(channels, branch)

    def forward(self, images: Tensor) -> SegmenterOutput:
        """Predict for (B, 3, H, W) normalized RGB images, at the decode head's resolution."""
        maps = self.backbone(images.flip(1) if self._swap else images)
        logits = self.head(self.neck(maps) if self.neck is not None else maps)
        return SegmenterOutput(logits, maps[self.backbone_map])

    def _probe(self, where: str) -> int:
        """Return the channels of the backbone's map, and check that all parts speak our language.

        Shapes only, no numbers, run through a copy.
        """
        with torch.no_grad():
            ghost = copy.deepcopy(self).to("meta").eval()
            maps = ghost.backbone(torch.empty(1, 3, _PROBE_PX, _PROBE_PX, device="meta"))
            shapes = [_shape(m) for m in maps] if isinstance(maps, Sequence) else []
            if not -len(shapes) <= self.backbone_map < len(shapes) or len(shapes[self.backbone_map]) != 4:  # noqa: PLR2004
                raise ConfigError(
                    explain(
                        expected="a backbone whose maps are (B, X, h, w), and one of them named",
                        got=f"{self.backbone_map} of {shapes}",
                        where="segmenter.backbone_map",
                        do="correct the number, or out_indices of the backbone",
                    )
                )
            logits = _shape(ghost.head(ghost.neck(maps) if ghost.neck is not None else maps))
        if len(logits) != 4 or logits[1] != self.num_classes:  # noqa: PLR2004
            raise ConfigError(
                explain(
                    expected=f"a decode head that returns one map of {self.num_classes} logits",
                    got=str(logits),
                    where=where,
                    do="choose another head; those with masks, points or a cascade are not supported",
                )
            )
        return shapes[self.backbone_map][1]


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def _build(model: dict[str, Any], num_classes: int) -> nn.Module:
    where = f"segmenter.model ({model.get('type')})"
    if not isinstance(model.get("decode_head"), dict) or "backbone" not in model:
        raise ConfigError(
            explain(
                expected="mmsegmentation's dict of an EncoderDecoder, with backbone and one decode_head",
                got=f"keys {', '.join(sorted(model))}",
                where=where,
                do="cascades and two-branch networks are not supported",
            )
        )
    if model.pop("auxiliary_head", None) is not None:
        log.warning("%s: auxiliary_head has no effect; the training loss is the one of the objective config", where)
    head = {**model["decode_head"], "num_classes": num_classes}
    segmentor = build_module({"test_cfg": {"mode": "whole"}, **model, "decode_head": head}, "mmseg", where)
    from mmseg.models.segmentors import EncoderDecoder

    if type(segmentor) is not EncoderDecoder:
        raise ConfigError(
            explain(
                expected="an EncoderDecoder",
                got=type(segmentor).__name__,
                where=where,
                do="choose one, or write a SegmenterNetwork of your own",
            )
        )
    init_weights(segmentor)
    return segmentor
