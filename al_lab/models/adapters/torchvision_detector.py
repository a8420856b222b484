"""torchvision's detectors, by name: Faster R-CNN, FCOS, RetinaNet, SSD and SSDLite, with their own losses."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops.misc import FrozenBatchNorm2d

from al_lab.core.errors import ConfigError, did_you_mean, explain
from al_lab.core.fields import one_of
from al_lab.data.loading.batch import Batch
from al_lab.models.detectors.detector import Detector, targets_of_images
from al_lab.models.detectors.seen import Seen
from al_lab.models.detectors.settings import Activation, Postprocess, Resize
from al_lab.models.smallest import check_input, explained, ghost
from al_lab.models.weights import fill_detector, fit, read_weights

#: Layers whose shapes depend on the number of classes; those of other classes begin from random.
_OF_CLASSES = ("head.", "roi_heads.box_predictor.")
#: Arguments that are ours, or of the transform whose work our loaders do.
_NOT_READ = ("self", "backbone", "num_classes", "min_size", "max_size", "size", "kwargs")


class TorchvisionDetector(Detector):
    """One of torchvision's detectors for boxes, with its own network, training loss and numbers.

    | builder | class distribution of a box |
    |---|---|
    | ``fasterrcnn_*`` | softmax of the second stage, background first; each class has a box of its own |
    | ``ssd*`` | softmax, background first |
    | ``retinanet_*`` | sigmoid |
    | ``fcos_*`` | sqrt(sigmoid(class) sigmoid(centerness)), by which torchvision ranks boxes |

    Deviations: images are resized by our loaders (`resize`), not by torchvision's transform, and normalized with the
    builder's mean and deviation. Decoding and suppression are ours, with the builder's thresholds; equality with
    torchvision's own is tested.

    Args:
        num_classes: foreground classes.
        model: builder in torchvision.models.detection, such as fasterrcnn_resnet50_fpn.
        input_hw: input size; with ``keep_ratio`` the (shorter, longer) side limits.
        resize: ``fixed`` or ``keep_ratio``.
        weights: a backbone, or a whole detector of the same builder: a file, ``torchvision://name`` or a URL; null:
            from random.
        norm: ``batch`` learns statistics of batches; ``frozen`` keeps those of the weights.
        frozen: beginnings of names in ``backbone`` that stay as they are, such as body.layer1.
        options: further arguments of the builder, such as rpn_post_nms_top_n_test or box_detections_per_img.
        embedding_from: level of the feature maps that embeddings are means of; null: the middle one.
        postprocess: instead of the builder's numbers.
        cache_dir: where downloaded weights are kept.

    Raises:
        ConfigError: for a name that is no such builder, or options it doesn't take.
        WeightsError: for weights that can't be had or don't fit.
    """

    def __init__(
        self,
        num_classes: int,
        model: str,
        input_hw: tuple[int, int],
        *,
        resize: Resize = "fixed",
        weights: str | None = None,
        norm: Literal["batch", "frozen"] = "batch",
        frozen: Sequence[str] = (),
        options: Mapping[str, Any] | None = None,
        embedding_from: int | None = None,
        postprocess: Postprocess | None = None,
        cache_dir: str | None = None,
    ) -> None:
        one_of("batch", "frozen")(norm, "detector.norm")
        network: Any = _built(model, num_classes, dict(options or {}))
        self.kind = type(network).__name__
        activation: Activation = "softmax" if self.kind in ("FasterRCNN", "SSD") else "sigmoid"
        super().__init__(
            num_classes,
            input_hw,
            activation=activation,
            mean=[255 * v for v in network.transform.image_mean],
            std=[255 * v for v in network.transform.image_std],
            resize=resize,
            pad_divisor=int(network.transform.size_divisible) if resize == "keep_ratio" else 1,
            postprocess=postprocess or _settings(network),
        )
        network.transform = _AsItIs()
        self.network, self.embedding_from = network, embedding_from
        if weights:
            self._read(weights, cache_dir)
        if norm == "frozen":
            _freeze_norms(network.backbone)
        self._freeze(frozen)
        check_input(self._shapes(), self.smallest_usual_hw())

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """See `Detector.loss`: torchvision's, whose parts are summed as its reference training does."""
        was, first = self.network.training, int(self.activation == "softmax")
        targets = targets_of_images(batch, first)
        self.network.train()
        try:
            with explained(self._shapes, batch.images):
                parts: dict[str, Tensor] = self.network(_Padded(batch.images, batch.valid_hw), targets)
        finally:
            self.network.train(was)
        return {"loss": torch.stack(list(parts.values())).sum()} | {k: v.detach() for k, v in parts.items()}

    def look(self, images: Tensor, valid_hw: Tensor) -> Seen:
        """See `Detector.look`."""
        batch = _Padded(images, valid_hw).batch
        with explained(self._shapes, images):
            maps = self.network.backbone(images)
        features = list(maps.values()) if isinstance(maps, Mapping) else [maps]
        if self.kind == "FasterRCNN":
            return self._second_stage(batch, maps, features)
        out = self.network.head(features)
        anchors = self.network.anchor_generator(batch, features)
        counts = [f.shape[2] * f.shape[3] for f in features]
        per_cell = len(anchors[0]) // sum(counts)
        sizes = tuple(n * per_cell for n in counts) if per_cell * sum(counts) == len(anchors[0]) else ()
        deltas, logits = out["bbox_regression"].float(), out["cls_logits"].float()
        if self.kind == "FCOS":
            probs = (logits.sigmoid() * out["bbox_ctrness"].float().sigmoid()).sqrt()
            boxes = [self.network.box_coder.decode(d, a) for d, a in zip(deltas, anchors, strict=True)]
        else:
            probs = logits.softmax(-1) if self.kind == "SSD" else logits.sigmoid()
            boxes = [self.network.box_coder.decode_single(d, a) for d, a in zip(deltas, anchors, strict=True)]
        return Seen(boxes, list(probs), tuple(features), sizes)

    def embedding_map(self, features: tuple[Tensor, ...]) -> Tensor:
        """See `Detector.embedding_map`: with five levels of a pyramid, the third."""
        return features[len(features) // 2 if self.embedding_from is None else self.embedding_from]

    def _shapes(self) -> Callable[[Tensor], Any]:
        return cast(Callable[[Tensor], Any], ghost(self.network.backbone))

    def _second_stage(self, batch: ImageList, maps: Any, features: list[Tensor]) -> Seen:
        proposals, _ = self.network.rpn(batch, maps, None)
        heads = self.network.roi_heads
        logits, deltas = heads.box_predictor(heads.box_head(heads.box_roi_pool(maps, proposals, batch.image_sizes)))
        counts = [len(p) for p in proposals]
        boxes = heads.box_coder.decode(deltas.float(), [p.float() for p in proposals])[:, 1:].split(counts)
        return Seen(list(boxes), list(logits.float().softmax(-1).split(counts)), tuple(features))

    def _read(self, source: str, cache_dir: str | None) -> None:
        state = read_weights(source, cache_dir)
        if any(k.startswith(("head.", "roi_heads.")) for k in state):
            fill_detector(self.network, state, source, _OF_CLASSES)
            return
        body = getattr(self.network.backbone, "body", None) or self.network.backbone
        body.load_state_dict(fit(state, body, source))

    def _freeze(self, frozen: Sequence[str]) -> None:
        parameters = dict(self.network.backbone.named_parameters())
        names = sorted({n.rpartition(".")[0] for n in parameters} | {n.split(".")[0] for n in parameters})
        for beginning in frozen:
            found = [p for n, p in parameters.items() if n == beginning or n.startswith(f"{beginning}.")]
            if not found:
                do = did_you_mean(beginning, names)
                raise ConfigError(
                    explain(expected="a part of the backbone", got=repr(beginning), where="detector.frozen", do=do)
                )
            for parameter in found:
                parameter.requires_grad_(False)


class _Padded(list[Tensor]):
    """A padded batch, image by image, as torchvision's models want to be called."""

    def __init__(self, images: Tensor, valid_hw: Tensor) -> None:
        super().__init__(images)
        self.batch = ImageList(images, [(int(h), int(w)) for h, w in valid_hw.tolist()])


class _AsItIs(nn.Module):
    """In the place of torchvision's transform: our loaders have done its work."""

    def forward(self, images: _Padded, targets: Any = None) -> tuple[ImageList, Any]:
        """Return what came."""
        return images.batch, targets

    def postprocess(self, detections: Any, image_shapes: Any, original_sizes: Any) -> Any:
        """Return what came."""
        return detections


def _built(name: str, num_classes: int, options: dict[str, Any]) -> nn.Module:
    """Build from random weights; heads with softmax count the background as a class."""
    from torchvision.models import detection, get_model, list_models

    names = [n for n in list_models(module=detection) if not n.startswith(("mask", "keypoint"))]
    if name not in names:
        raise ConfigError(
            explain(
                expected=f"one of torchvision's detectors: {', '.join(names)}",
                got=repr(name),
                where="detector.model",
                do=did_you_mean(name, names),
            )
        )
    has_background = name.startswith(("fasterrcnn", "ssd"))
    try:
        model = get_model(
            name, weights=None, weights_backbone=None, num_classes=num_classes + has_background, **options
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(
            explain(
                expected=f"arguments of torchvision's {name}",
                got=str(error),
                where="detector.options",
                do=f"see torchvision.models.detection.{name}",
            )
        ) from error
    known = [n for n in inspect.signature(type(model).__init__).parameters if n not in _NOT_READ]
    for strange in (n for n in options if n not in known):  # torchvision swallows what it does not know
        raise ConfigError(
            explain(
                expected=f"arguments of torchvision's {type(model).__name__}",
                got=repr(strange),
                where="detector.options",
                do=did_you_mean(strange, known),
            )
        )
    built: nn.Module = model
    return built


def _settings(network: Any) -> Postprocess:
    """Return our settings with the builder's numbers."""
    if type(network).__name__ == "FasterRCNN":
        heads = network.roi_heads
        return Postprocess(heads.score_thresh, heads.nms_thresh, None, None, heads.detections_per_img, clip=True)
    of_class = type(network).__name__ == "SSD"
    return Postprocess(
        network.score_thresh,
        network.nms_thresh,
        network.topk_candidates if of_class else None,
        None if of_class else network.topk_candidates,
        network.detections_per_img,
        clip=True,
    )


def _freeze_norms(module: nn.Module) -> None:
    """Put a frozen normalization with the same numbers in the place of each batch normalization."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(child.num_features, eps=child.eps)
            frozen.load_state_dict({k: v for k, v in child.state_dict().items() if k != "num_batches_tracked"})
            setattr(module, name, frozen)
        else:
            _freeze_norms(child)
