"""Detectors of Hugging Face's transformers: RT-DETR, DETR and their relatives, with their own losses.

Nothing is downloaded: networks are built from their configurations, weights come from local files.
"""

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_convert

from al_lab.core.errors import ConfigError, WeightsError, did_you_mean, explain
from al_lab.data.loading.batch import Batch
from al_lab.models.detectors.detector import Detector, targets_of_images
from al_lab.models.detectors.seen import Seen
from al_lab.models.detectors.settings import Activation, Postprocess, Resize
from al_lab.models.imagenet import IMAGENET_MEAN, IMAGENET_STD
from al_lab.models.smallest import check_input, explained, ghost

#: Whose classes are one choice, "no object" last; the others answer a question a class.
_SOFTMAX = ("detr", "table-transformer", "yolos")
#: Whose images are scaled to 0..1 and not normalized.
_UNIT = ("rt_detr", "rt_detr_v2", "d_fine")
_FEWER = ", or fewer queries (detector.config={num_queries: 100})"
#: Layers whose shapes depend on the number of classes; those of other classes begin from random.
_OF_CLASSES = (
    "class_labels_classifier",
    "class_embed",
    "model.decoder.class_embed",
    "model.enc_score_head",
    "model.denoising_class_embed",
)


class TransformersDetector(Detector):
    """A detector with queries of transformers, built from its configuration.

    The class distribution of a box is the query's: a sigmoid a class, or (DETR, YOLOS) a softmax whose "no object" is
    background. Nothing is suppressed. Boxes are fractions of the padded input.

    Args:
        num_classes: foreground classes.
        model: ``model_type`` as transformers calls it, such as rt_detr, rt_detr_v2, d_fine, detr, deformable_detr.
        input_hw: input size; with ``keep_ratio`` the (shorter, longer) side limits.
        config: further keys of that model's configuration, such as num_queries; ``backbone_config`` as a mapping with
            its own ``model_type``.
        resize: ``fixed`` or ``keep_ratio``.
        weights: a whole detector's, trained on any classes: the model.safetensors of a folder that transformers saved;
            null: from random.
        embedding_from: level of the backbone's maps that embeddings are means of; null: the last.
        postprocess: instead of the 300 most confident (query, class) pairs from 1 % on.

    Raises:
        ConfigError: without the package, for an unknown model, or keys it doesn't take.
        WeightsError: for weights that can't be had or don't fit.
    """

    def __init__(
        self,
        num_classes: int,
        model: str,
        input_hw: tuple[int, int],
        *,
        config: Mapping[str, Any] | None = None,
        resize: Resize = "fixed",
        weights: str | None = None,
        embedding_from: int | None = None,
        postprocess: Postprocess | None = None,
    ) -> None:
        network = _built(model, num_classes, dict(config or {}))
        if weights:
            network = _loaded(network, weights)
        activation: Activation = "softmax" if model in _SOFTMAX else "sigmoid"
        super().__init__(
            num_classes,
            input_hw,
            activation=activation,
            mean=(0.0, 0.0, 0.0) if model in _UNIT else IMAGENET_MEAN,
            std=(255.0, 255.0, 255.0) if model in _UNIT else IMAGENET_STD,
            resize=resize,
            pad_divisor=32 if resize == "keep_ratio" else 1,
            postprocess=postprocess or Postprocess(0.01, 1.0, None, None, 300, clip=True),
        )
        self.network, self.embedding_from = network, embedding_from
        check_input(self._shapes(), self.smallest_usual_hw(), _FEWER)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """See `Detector.loss`: what transformers returns as the loss, and its parts."""
        height, width = batch.images.shape[2:]
        size = torch.tensor([width, height, width, height], device=batch.images.device)
        labels = [
            {"class_labels": t["labels"], "boxes": box_convert(t["boxes"] / size, "xyxy", "cxcywh")}
            for t in targets_of_images(batch)
        ]
        with explained(self._shapes, batch.images, _FEWER):
            out = self.network(batch.images, pixel_mask=_mask(batch.images, batch.valid_hw), labels=labels)
        return {"loss": out.loss} | {f"hf_{k}": v.detach() for k, v in out.loss_dict.items()}

    def look(self, images: Tensor, valid_hw: Tensor) -> Seen:
        """See `Detector.look`."""
        maps: list[Tensor] = []
        backbone = _backbone(self.network)
        watch = backbone.register_forward_hook(lambda _, __, out: maps.extend(_maps(out)))
        try:
            with explained(self._shapes, images, _FEWER):
                out = self.network(images, pixel_mask=_mask(images, valid_hw))
        finally:
            watch.remove()
        height, width = images.shape[2:]
        size = torch.tensor([width, height, width, height], device=images.device)
        boxes = box_convert(out.pred_boxes.float(), "cxcywh", "xyxy") * size
        logits, is_one = out.logits.float(), self.activation == "softmax"
        probs = logits.softmax(-1).roll(1, -1) if is_one else logits.sigmoid()
        return Seen(list(boxes), list(probs), tuple(maps), is_one_class=is_one)

    def embedding_map(self, features: tuple[Tensor, ...]) -> Tensor:
        """See `Detector.embedding_map`."""
        return features[-1 if self.embedding_from is None else self.embedding_from]

    def _shapes(self) -> Callable[[Tensor], Any]:
        shapes = ghost(self.network)

        def run(images: Tensor) -> Any:
            mask = torch.ones(1, *images.shape[2:], dtype=torch.long, device=images.device)
            return shapes(images, pixel_mask=mask)

        return run


def _built(model: str, num_classes: int, config: dict[str, Any]) -> Any:
    """Build from random weights."""
    where = "detector.model"
    if importlib.util.find_spec("transformers") is None:
        do = "install the extra 'hf' (make setup does), or choose another detector"
        raise ConfigError(explain(expected="the package transformers", got="none", where=where, do=do))
    from transformers import AutoConfig, AutoModelForObjectDetection
    from transformers.models.auto.modeling_auto import MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES

    names = tuple(MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES)
    if model not in names:
        expected = "an object detector of transformers"
        raise ConfigError(explain(expected=expected, got=repr(model), where=where, do=did_you_mean(model, names)))
    try:
        known = list(AutoConfig.for_model(model).to_dict())
        strange = [k for k in config if k not in known]
        backbone = config.get("backbone_config")
        own = (
            dict(config) if backbone is None else {**config, "backbone_config": AutoConfig.for_model(**dict(backbone))}
        )
        if not strange:
            return AutoModelForObjectDetection.from_config(AutoConfig.for_model(model, num_labels=num_classes, **own))
    except (TypeError, ValueError, KeyError, ImportError, OSError, AttributeError) as error:
        raise ConfigError(
            explain(
                expected=f"a configuration that transformers can build {model} from",
                got=f"{type(error).__name__}: {error}",
                where="detector.config",
                do=f"see transformers' documentation of {model}",
            )
        ) from error
    do = did_you_mean(strange[0], known)
    raise ConfigError(
        explain(expected=f"a key of {model}'s configuration", got=repr(strange[0]), where="detector.config", do=do)
    )


def _loaded(network: Any, source: str) -> Any:
    """Return the network with the weights of a file; layers for other classes begin from random.

    transformers reads it, as what it saves has other names than what it builds.

    Raises:
        WeightsError: if it is not there, or of another network.
    """
    path = Path(source).expanduser()
    if not path.is_file():
        do = "give the model.safetensors of a folder that transformers saved; nothing is downloaded here"
        raise WeightsError(explain(expected="a file with pretrained weights", got="no such file", where=source, do=do))
    loaded, info = type(network).from_pretrained(
        str(path.parent),
        config=network.config,
        ignore_mismatched_sizes=True,
        local_files_only=True,
        output_loading_info=True,
    )
    wrong = [*info["missing_keys"], *(key[0] if isinstance(key, tuple) else key for key in info["mismatched_keys"])]
    strange = sorted(k for k in wrong if not k.startswith(_OF_CLASSES))
    if strange:
        got = f"none or another shape for {strange[0]} and {len(strange) - 1} more"
        do = "use a checkpoint of the same model and configuration"
        raise WeightsError(
            explain(expected=f"a checkpoint of this {type(network).__name__}", got=got, where=source, do=do)
        )
    return loaded


def _mask(images: Tensor, valid_hw: Tensor) -> Tensor:
    """Return (B, h, w) int64: 1 where the input is image."""
    mask = torch.zeros(len(images), *images.shape[2:], dtype=torch.long, device=images.device)
    for row, (h, w) in enumerate(valid_hw.tolist()):
        mask[row, :h, :w] = 1
    return mask


def _backbone(network: Any) -> Any:
    inner = getattr(network, "model", network)
    return next((getattr(inner, n) for n in ("backbone", "vit") if hasattr(inner, n)), inner)


def _maps(out: Any) -> Iterator[Tensor]:
    """Yield the maps (B, E, h, w) in whatever a backbone returns; masks are no maps."""
    if isinstance(out, Tensor):
        if out.ndim == 4 and out.is_floating_point():  # noqa: PLR2004
            yield out
    elif isinstance(out, Mapping):
        yield from _maps(list(out.values()))
    elif isinstance(out, Sequence) and not isinstance(out, str):
        first = out[0] if len(out) == 2 and isinstance(out[0], list | tuple) else out  # noqa: PLR2004 - and positions
        for inner in first:
            yield from _maps(inner)
