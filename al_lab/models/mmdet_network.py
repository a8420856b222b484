"""Any single-stage anchor detector of mmdet, named by its model dict, as a `DetectorNetwork`.

mmdet gives the network and its anchors; matching thresholds, box coder and test settings are read from the same dict, so that a
published config keeps its meaning. Loss, decoding and NMS are ours.
"""

import copy
import logging
import math
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from al_lab.core.errors import ConfigError, explain
from al_lab.models import mmcv_ext
from al_lab.models.boxes import BoxCoder, Matching
from al_lab.models.network import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    DetectorNetwork,
    HeadOutput,
    Postprocess,
    Resize,
    flatten_maps,
)
from al_lab.models.priors import priors_from_corners
from al_lab.models.weights import load_pretrained

log = logging.getLogger(__name__)
_CACHED_SHAPES = 16
_OUR_LOSSES = ("FocalLoss", "CrossEntropyLoss", "L1Loss", "SmoothL1Loss")


class MMDetNetwork(DetectorNetwork):
    """An mmdet detector with anchors, box deltas and plain class probabilities (SSD, SSDLite, RetinaNet and their relatives).

    Args:
        num_classes: foreground classes; replaces the dict's own number.
        model: mmdet's model dict. ``data_preprocessor`` gives mean, std, channel order and padding, ``train_cfg.assigner`` the
            matching, ``bbox_head.bbox_coder`` the variances, ``test_cfg`` the post-processing.
        input_hw: input size; with ``keep_ratio`` the (shorter, longer) side limits.
        resize: ``fixed`` or ``keep_ratio``.
        clip_priors: clamp the anchors' center-size numbers to [0, 1]: the papers' SSD, which mmdet's is not.
        weights: pretrained backbone (or whole detector of mmdet): a file, ``torchvision://name`` or a URL; null starts from random.
            A ``Pretrained`` init_cfg of the backbone means the same.
        embedding_from: the image embedding: ``last`` level, ``mean`` over levels (equal widths), or a level's index; each averaged
            over space.
        postprocess: instead of ``test_cfg``.
        cache_dir: where downloaded weights are kept.

    Raises:
        ConfigError: if the dict names something that is not such a detector.
    """

    provides: tuple[str, ...] = ("detections", "class_probs", "image_embedding")

    def __init__(
        self,
        num_classes: int,
        model: Mapping[str, Any],
        input_hw: tuple[int, int],
        *,
        resize: Resize = "fixed",
        clip_priors: bool = False,
        weights: str | None = None,
        embedding_from: str | int = "last",
        postprocess: Postprocess | None = None,
        cache_dir: str | None = None,
    ) -> None:
        model = _plain(model)
        preprocess = model.pop("data_preprocessor", None) or {}
        swap = not preprocess.get("bgr_to_rgb", True)
        mean, std = (
            tuple(preprocess.get(k, v))[:: -1 if swap and k in preprocess else 1]
            for k, v in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD))
        )
        weights = weights or _pretrained_source(model)
        detector = _build(model, num_classes)
        head = detector.bbox_head
        super().__init__(
            num_classes,
            input_hw,
            activation="sigmoid" if head.use_sigmoid_cls else "softmax",
            mean=mean,
            std=std,
            resize=resize,
            pad_divisor=int(preprocess.get("pad_size_divisor", 1)),
            code=_coder(head),
            matching=_matching(model.get("train_cfg")),
            postprocess=postprocess or _settings(model.get("test_cfg")),
        )
        self.detector = detector
        self.clip_priors, self.embedding_from, self._swap = bool(clip_priors), embedding_from, swap
        self._priors: OrderedDict[tuple, Tensor] = OrderedDict()
        shapes = self._probe(_padded(self.input_hw, self.pad_divisor))
        self.register_buffer(
            "priors", self._make_priors(shapes, _padded(self.input_hw, self.pad_divisor)), persistent=False
        )
        if weights:
            load_pretrained(detector, weights, cache_dir)

    def forward(self, images: Tensor) -> HeadOutput:
        """Predict for (B, 3, h, w) normalized RGB images."""
        features = self.detector.extract_feat(images.flip(1) if self._swap else images)
        class_maps, box_maps = self.detector.bbox_head(features)
        logits = flatten_maps(class_maps, self.num_logits)
        if self.activation == "softmax":
            logits = torch.cat([logits[..., -1:], logits[..., :-1]], dim=-1)  # mmdet's background is last, ours first
        deltas = flatten_maps(box_maps, 4)
        shapes = [tuple(m.shape[-2:]) for m in box_maps]
        input_hw = (int(images.shape[2]), int(images.shape[3]))
        sizes = tuple(m.shape[1] // 4 * m.shape[2] * m.shape[3] for m in box_maps)
        return HeadOutput(logits, deltas, tuple(features), self._priors_for(shapes, input_hw), input_hw, sizes)

    def embedding(self, features: tuple[Tensor, ...]) -> Tensor:
        """Return (B, E) float32: 256 numbers from SSD300's conv11_2, or from the mean over RetinaNet's pyramid."""
        pooled = [f.float().mean(dim=(2, 3)) for f in features]
        if self.embedding_from == "mean":
            return torch.stack(pooled).mean(0)
        return pooled[-1 if self.embedding_from == "last" else int(self.embedding_from)]

    def _priors_for(self, shapes: list[tuple], input_hw: tuple[int, int]) -> Tensor:
        if input_hw == _padded(self.input_hw, self.pad_divisor):
            return self.priors
        key = (input_hw, self.priors.device)
        if key not in self._priors:
            self._priors[key] = self._make_priors(shapes, input_hw).to(self.priors.device)
            if len(self._priors) > _CACHED_SHAPES:
                self._priors.popitem(last=False)
        self._priors.move_to_end(key)
        return self._priors[key]

    def _make_priors(self, shapes: list[tuple], input_hw: tuple[int, int]) -> Tensor:
        corners = torch.cat(self.detector.bbox_head.prior_generator.grid_priors(shapes, device="cpu"))
        priors = priors_from_corners(corners, input_hw)
        return priors.clamp(0, 1) if self.clip_priors else priors

    def _probe(self, input_hw: tuple[int, int]) -> list[tuple]:
        """Run shapes only (no numbers) through a copy and check that the head speaks our language."""
        where = f"detector.model.bbox_head ({type(self.detector.bbox_head).__name__})"
        with torch.no_grad():
            ghost = copy.deepcopy(self.detector).to("meta").eval()
            features = ghost.extract_feat(torch.empty(1, 3, *input_hw, device="meta"))
            maps = ghost.bbox_head(features)
        if len(maps) != 2:
            raise ConfigError(
                explain(
                    expected="two outputs a level, class logits and box deltas",
                    got=f"{len(maps)}",
                    where=where,
                    do="its class probabilities pass through another branch (centerness, objectness, quality); "
                    "choose a RetinaNet- or SSD-like head",
                )
            )
        priors = [
            n * s[0] * s[1]
            for n, s in zip(_per_cell(self.detector.bbox_head), (m.shape[-2:] for m in maps[1]), strict=True)
        ]
        logits = [m[0].numel() // self.num_logits for m in maps[0]]
        if priors != [m[0].numel() // 4 for m in maps[1]] or priors != logits:
            raise ConfigError(
                explain(
                    expected=f"{self.num_logits} logits and 4 deltas for each of {priors} anchors",
                    got=f"{logits} and {[m[0].numel() // 4 for m in maps[1]]}",
                    where=where,
                    do="choose another head",
                )
            )
        if self.embedding_from == "mean" and len({f.shape[1] for f in features}) > 1:
            raise ConfigError(
                explain(
                    expected="levels of equal width for embedding_from=mean",
                    got=str([f.shape[1] for f in features]),
                    where="detector.embedding_from",
                    do="set it to last or to a level's index",
                )
            )
        if isinstance(self.embedding_from, int) and not -len(features) <= self.embedding_from < len(features):
            raise ConfigError(
                explain(
                    expected=f"a level in 0..{len(features) - 1}",
                    got=str(self.embedding_from),
                    where="detector.embedding_from",
                    do="choose one, or last, or mean",
                )
            )
        return [tuple(m.shape[-2:]) for m in maps[1]]


def _plain(node: Any, key: str = "") -> Any:
    """Copy to plain dicts and lists, but for the one value mmdet insists is a tuple (FPN insists on lists)."""
    if isinstance(node, Mapping):
        return {k: _plain(v, k) for k, v in node.items()}
    if isinstance(node, list | tuple):
        values = [_plain(v) for v in node]
        return tuple(values) if key == "basesize_ratio_range" else values
    return node


def _pretrained_source(model: dict[str, Any]) -> str | None:
    """Take a ``Pretrained`` init_cfg out of the backbone (mmengine would unpickle whatever it downloads) and return its source."""
    backbone = model.get("backbone") or {}
    init = backbone.get("init_cfg")
    if isinstance(init, Mapping) and init.get("type") == "Pretrained":
        del backbone["init_cfg"]
        return str(init["checkpoint"])
    return None


def _build(model: dict[str, Any], num_classes: int) -> nn.Module:
    where = f"detector.model ({model.get('type')})"
    if not isinstance(model.get("bbox_head"), dict) or "backbone" not in model:
        raise ConfigError(
            explain(
                expected="mmdet's dict of a single-stage detector, with backbone and bbox_head",
                got=f"keys {', '.join(sorted(model))}",
                where=where,
                do="two-stage and transformer detectors are not supported; choose e.g. RetinaNet or SSD",
            )
        )
    mmcv_ext.install()
    with warnings.catch_warnings():
        # Not ours to fix: mmengine and mmdet use torch functions that newer torch announces to remove.
        warnings.simplefilter("ignore")
        import mmdet.models  # noqa: F401 - fills the registry; never register_all_modules: it hijacks mmseg's backbones
        from mmdet.models.detectors import SingleStageDetector
        from mmdet.registry import MODELS
        from mmengine.config import ConfigDict
        from mmengine.logging import MMLogger

        MMLogger.get_current_instance().setLevel("ERROR")  # init_weights logs every parameter
        config = ConfigDict(copy.deepcopy(model))
        config["_scope_"] = "mmdet"
        config["bbox_head"]["num_classes"] = num_classes
        try:
            detector = MODELS.build(config)
        except (KeyError, TypeError, ValueError, AssertionError, AttributeError) as error:
            raise ConfigError(
                explain(
                    expected="a model dict mmdet can build",
                    got=f"{type(error).__name__}: {error}",
                    where=where,
                    do="compare the dict with mmdet's own configs",
                )
            ) from error
        _check(detector, SingleStageDetector, where)
        detector.init_weights()  # mandatory: SSD's L2Norm scale is uninitialised memory before
    if not hasattr(detector.bbox_head, "loss_cls"):
        detector.bbox_head.loss_cls = None  # mmdet's predict reads it, SSDHead never sets it
    return detector


def _check(detector: nn.Module, single_stage: type, where: str) -> None:
    from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
    from mmdet.models.task_modules.prior_generators import AnchorGenerator

    head = getattr(detector, "bbox_head", None)
    coder = getattr(head, "bbox_coder", None)
    reasons = [
        (not isinstance(detector, single_stage), "it is not a SingleStageDetector"),
        (
            not isinstance(getattr(head, "prior_generator", None), AnchorGenerator),
            "its head has points or queries, not anchors",
        ),
        (
            type(coder) is not DeltaXYWHBBoxCoder,
            f"its boxes are coded by {type(coder).__name__}, not DeltaXYWHBBoxCoder",
        ),
        (any(getattr(coder, "means", ())), "its box coder has means other than 0"),
        (bool(getattr(coder, "add_ctr_clamp", False)), "its box coder clamps centers"),
    ]
    for bad, reason in reasons:
        if bad:
            raise ConfigError(
                explain(
                    expected="a single-stage detector with anchors and box deltas",
                    got=f"{type(detector).__name__}: {reason}",
                    where=where,
                    do="choose e.g. RetinaNet, SSD or SSDLite, or write a DetectorNetwork of your own",
                )
            )
    for name in ("loss_cls", "loss_bbox"):
        kind = type(getattr(head, name, None)).__name__
        if kind not in (*_OUR_LOSSES, "NoneType"):
            log.warning(
                "%s: %s=%s has no effect; the training loss is the one of the objective config", where, name, kind
            )


def _per_cell(head: Any) -> list[int]:
    return list(head.prior_generator.num_base_priors)


def _coder(head: Any) -> BoxCoder:
    return BoxCoder(tuple(float(v) for v in head.bbox_coder.stds), abs(math.log(16 / 1000)))


def _matching(train_cfg: Mapping[str, Any] | None) -> Matching:
    assigner = (train_cfg or {}).get("assigner")
    if assigner is None:
        return Matching()
    if assigner.get("type") != "MaxIoUAssigner":
        log.warning(
            "detector.model: assigner %s has no effect; anchors are matched by IoU 0.5/0.4", assigner.get("type")
        )
        return Matching(0.5, 0.4, True, True)
    return Matching(
        float(assigner["pos_iou_thr"]),
        float(assigner["neg_iou_thr"]),
        bool(assigner.get("match_low_quality", True)),
        bool(assigner.get("gt_max_assign_all", True)),
    )


def _settings(test_cfg: Mapping[str, Any] | None) -> Postprocess:
    cfg = test_cfg or {}
    kind = cfg.get("nms", {}).get("type", "nms")
    if kind != "nms":
        raise ConfigError(
            explain(
                expected="greedy NMS (type nms)",
                got=repr(kind),
                where="detector.model.test_cfg.nms",
                do="set type: nms; other kinds are not implemented",
            )
        )
    per_level, per_image = int(cfg.get("nms_pre", -1)), int(cfg.get("max_per_img", -1))
    return Postprocess(
        float(cfg.get("score_thr", 0.0)),
        float(cfg.get("nms", {}).get("iou_threshold", 0.5)),
        None,
        per_level if per_level > 0 else None,
        per_image if per_image > 0 else None,
        clip=True,
    )


def _padded(hw: tuple[int, int], divisor: int) -> tuple[int, int]:
    return -(-hw[0] // divisor) * divisor, -(-hw[1] // divisor) * divisor
