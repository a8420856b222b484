"""mmdet's detectors of every other kind, with mmdet's own losses: two stages, points, distributions, queries.

Faster and Cascade R-CNN, ATSS, FCOS, GFL, PAA, TOOD, RTMDet, DETR, Deformable DETR, DINO, named by mmdet's own config
files or by a model dict. Detectors with anchors and box deltas are `MMDetNetwork`'s: objectives that compare anchors
need that.
"""

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from al_lab.core.errors import ConfigError, did_you_mean, explain
from al_lab.data.loading.batch import Batch
from al_lab.models.detectors.detector import Detector, targets_of_images
from al_lab.models.detectors.seen import Seen
from al_lab.models.detectors.settings import Activation, Postprocess, Resize
from al_lab.models.mm.mmdet_build import Inputs, inputs_of, settings_of
from al_lab.models.mm.registry import build_module, init_weights, plain, take_pretrained
from al_lab.models.smallest import TooFewPlacesError, check_input, explained, ghost
from al_lab.models.weights import Normalization, load_pretrained

_FEWER = ", or fewer queries where it has any (detector.model={num_queries: 100})"
_RANKING = "filter_scores_and_topk"


class MMDetDetector(Detector):
    """Any detector for boxes of mmdet whose class distributions can be read.

    | family | class distribution of a box |
    |---|---|
    | two stages | softmax of the second (or last) stage, background first; each class may have a box of its own |
    | dense heads | sigmoid; times centerness, IoU or objectness where mmdet ranks by that |
    | queries | sigmoid, or softmax with "no object" first (its likeliest class counts); nothing is suppressed |

    mmdet's own decoding runs; only its ranking and suppression are left to us, with the numbers of ``test_cfg``.

    Args:
        num_classes: foreground classes; replaces the model's own number.
        input_hw: input size; with ``keep_ratio`` the (shorter, longer) side limits.
        config: one of mmdet's own config files, such as atss/atss_r50_fpn_1x_coco.py, of which ``model`` is taken.
        model: a model dict; with ``config`` changes to it, at any depth.
        resize: ``fixed`` or ``keep_ratio``.
        weights: pretrained backbone, or a whole detector of mmdet: a file, ``torchvision://name`` or a URL; null:
            from random, whatever ``init_cfg`` says.
        embedding_from: level of the feature maps that embeddings are means of; null: the middle one.
        postprocess: instead of ``test_cfg``.
        cache_dir: where downloaded weights are kept.

    Raises:
        ConfigError: for what mmdet can't build, or a head whose distributions can't be read.
        WeightsError: for weights that can't be had or don't fit.
    """

    def __init__(
        self,
        num_classes: int,
        input_hw: tuple[int, int],
        *,
        config: str | None = None,
        model: Mapping[str, Any] | None = None,
        resize: Resize = "fixed",
        weights: str | None = None,
        embedding_from: int | None = None,
        postprocess: Postprocess | None = None,
        cache_dir: str | None = None,
    ) -> None:
        own = plain(_merged(_of_file(config) if config else {}, model or {}))
        take_pretrained(own)
        inputs: Inputs = inputs_of(own)
        _prepare(own, num_classes)
        where = f"detector.model ({own.get('type')})"
        detector: Any = build_module(own, "mmdet", where)
        self._kind = _kind_of(detector, where)
        init_weights(detector)
        head = detector.roi_head if self._kind == "stages" else detector.bbox_head
        activation: Activation = "softmax" if self._kind == "stages" or not _is_sigmoid(head) else "sigmoid"
        super().__init__(
            num_classes,
            input_hw,
            activation=activation,
            mean=inputs.mean,
            std=inputs.std,
            resize=resize,
            pad_divisor=inputs.pad_divisor,
            postprocess=postprocess or _settings(self._kind, own.get("test_cfg")),
        )
        self.detector, self.embedding_from, self._swap = detector, embedding_from, inputs.is_bgr
        if weights:
            load_pretrained(detector, weights, cache_dir, Normalization(self.mean, self.std, self._swap))
        check_input(self._shapes(), self.smallest_usual_hw(), _FEWER)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """See `Detector.loss`: mmdet's, summed over everything it calls a loss."""
        samples = _samples(batch.images, batch.valid_hw, targets_of_images(batch))
        with explained(self._shapes, batch.images, _FEWER):
            losses = self.detector.loss(self._inputs(batch.images), samples)
        parts = {
            name: torch.stack([v.mean() for v in (value if isinstance(value, list | tuple) else [value])]).sum()
            for name, value in losses.items()
            if "loss" in name
        }
        return {"loss": torch.stack(list(parts.values())).sum()} | {f"mm_{k}": v.detach() for k, v in parts.items()}

    def look(self, images: Tensor, valid_hw: Tensor) -> Seen:
        """See `Detector.look`."""
        samples = _samples(images, valid_hw)
        look = {"stages": self._stages, "dense": self._dense, "queries": self._queries}[self._kind]
        with explained(self._shapes, images, _FEWER):
            return look(tuple(self.detector.extract_feat(self._inputs(images))), samples)

    def embedding_map(self, features: tuple[Tensor, ...]) -> Tensor:
        """See `Detector.embedding_map`."""
        return features[len(features) // 2 if self.embedding_from is None else self.embedding_from]

    def _shapes(self) -> Callable[[Tensor], Any]:
        """Return what computes the maps' shapes, and refuses fewer places than queries are chosen from."""
        shapes = ghost(self.detector)
        queries = int(shapes.num_queries) if getattr(shapes, "as_two_stage", False) else 0

        def run(images: Tensor) -> None:
            places = sum(m.shape[2] * m.shape[3] for m in shapes.extract_feat(images))
            if places < queries:
                raise TooFewPlacesError(f"whose maps have {places} places, fewer than the network's {queries} queries")

        return run

    def _inputs(self, images: Tensor) -> Tensor:
        return images.flip(1) if self._swap else images

    def _stages(self, features: tuple[Tensor, ...], samples: Sequence[Any]) -> Seen:
        proposals = self.detector.rpn_head.predict(features, samples, rescale=False)
        metas = [s.metainfo for s in samples]
        found = self.detector.roi_head.predict_bbox(features, metas, proposals, rcnn_test_cfg=None, rescale=False)
        boxes = [r.bboxes if r.bboxes.shape[1] == 4 else r.bboxes.view(len(r.bboxes), -1, 4) for r in found]
        return Seen(boxes, [r.scores.roll(1, 1) for r in found], features)

    def _dense(self, features: tuple[Tensor, ...], samples: Sequence[Any]) -> Seen:
        head = self.detector.bbox_head
        with _every_place(head) as scores:
            found = head.predict(features, samples, rescale=False)
        levels = len(scores) // len(samples)
        probs = []
        for number, result in enumerate(found):
            of_image = torch.cat(scores[number * levels : (number + 1) * levels])
            factor = result.get("score_factors")
            of_image = of_image if factor is None else of_image * factor[:, None]
            if self.activation == "softmax":
                of_image = torch.cat([1 - of_image.sum(1, keepdim=True), of_image], 1)
            probs.append(of_image)
        sizes = tuple(len(s) for s in scores[:levels])
        return Seen([r.bboxes for r in found], probs, features, sizes)

    def _queries(self, features: tuple[Tensor, ...], samples: Sequence[Any]) -> Seen:
        from mmdet.structures.bbox import bbox_cxcywh_to_xyxy  # noqa: PLC0415

        out = self.detector.bbox_head(**self.detector.forward_transformer(features, samples))
        logits, centers = out[0][-1].float(), out[1][-1].float()
        probs = logits.sigmoid() if self.activation == "sigmoid" else logits.softmax(-1).roll(1, -1)
        size = torch.tensor([(w, h, w, h) for h, w in (s.metainfo["img_shape"] for s in samples)], device=logits.device)
        boxes = list(bbox_cxcywh_to_xyxy(centers) * size[:, None])
        return Seen(boxes, list(probs), features, is_one_class=self.activation == "softmax")


@contextmanager
def _every_place(head: Any) -> Iterator[list[Tensor]]:
    """Let mmdet decode the box of every place once, with the scores of all its classes beside, and suppress nothing.

    Yields a list that gets the scores (P, C) of each image's levels, in order.
    """
    module = sys.modules[type(head)._predict_by_feat_single.__module__]
    ranking, scores = getattr(module, _RANKING), []

    def keep_all(values: Tensor, score_thr: float, topk: int, results: Any = None) -> tuple[Any, ...]:
        scores.append(values)
        best, labels = values.max(1)
        return best, labels, torch.arange(len(values), device=values.device), results

    setattr(module, _RANKING, keep_all)
    head._bbox_post_process = lambda results, **_: results
    try:
        yield scores
    finally:
        setattr(module, _RANKING, ranking)
        del head._bbox_post_process


def _kind_of(detector: Any, where: str) -> str:
    """Return ``stages``, ``dense`` or ``queries``.

    Raises:
        ConfigError: for a head of another kind.
    """
    from mmdet.models.dense_heads import DETRHead

    if hasattr(detector, "roi_head"):
        if getattr(detector.roi_head, "with_mask", False):
            do = "use the config without masks (faster-rcnn instead of mask-rcnn)"
            raise ConfigError(explain(expected="a detector for boxes", got="one with masks", where=where, do=do))
        return "stages"
    head = getattr(detector, "bbox_head", None)
    if isinstance(head, DETRHead):
        return "queries"
    single = getattr(type(head), "_predict_by_feat_single", None)
    whole = getattr(type(head), "predict_by_feat", None)
    is_called = whole is not None and single is not None and single.__name__ in whole.__code__.co_names
    if is_called and hasattr(sys.modules[single.__module__], _RANKING):
        return "dense"
    raise ConfigError(
        explain(
            expected="two stages, a dense head that ranks its places (ATSS, FCOS, GFL, RTMDet, …), or queries",
            got=f"{type(detector).__name__} with {type(head).__name__}",
            where=where,
            do="choose another model; detector=command takes any",
        )
    )


def _is_sigmoid(head: Any) -> bool:
    loss = getattr(head, "loss_cls", None)
    return bool(getattr(head, "use_sigmoid_cls", getattr(loss, "use_sigmoid", True)))


def _settings(kind: str, test_cfg: Mapping[str, Any] | None) -> Postprocess:
    cfg = dict(test_cfg or {})
    if kind == "queries":  # one box a query: nothing is suppressed
        return Postprocess(0.01, 1.0, None, None, int(cfg.get("max_per_img", 100)), clip=True)
    return settings_of(cfg["rcnn"] if kind == "stages" else cfg)


def _samples(images: Tensor, valid_hw: Tensor, targets: Sequence[dict[str, Tensor]] = ()) -> list[Any]:
    """Return what mmdet calls data samples: the size of each image in the batch, and what is labeled in it."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    shape, samples = (int(images.shape[2]), int(images.shape[3])), []
    for number, (h, w) in enumerate(valid_hw.tolist()):
        meta = {"img_shape": (h, w), "ori_shape": (h, w), "scale_factor": (1.0, 1.0)}
        sample = DetDataSample(metainfo={**meta, "pad_shape": shape, "batch_input_shape": shape})
        if targets:
            truth = targets[number]
            sample.gt_instances = InstanceData(bboxes=truth["boxes"], labels=truth["labels"])
            sample.ignored_instances = InstanceData(
                bboxes=truth["boxes"].new_zeros(0, 4), labels=truth["labels"].new_zeros(0)
            )
        samples.append(sample)
    return samples


def _of_file(name: str) -> dict[str, Any]:
    """Return the model of one of mmdet's own config files.

    Raises:
        ConfigError: if mmdet is not installed, or has no such file.
    """
    from al_lab.models.mm import mmcv_ext  # noqa: PLC0415

    spec = importlib.util.find_spec("mmdet")
    if spec is None or not spec.submodule_search_locations:
        raise mmcv_ext.not_installed(ImportError("No module named 'mmdet'"))
    folder = Path(next(iter(spec.submodule_search_locations))) / ".mim" / "configs"
    path = folder / name
    if not path.is_file() or folder.resolve() not in path.resolve().parents:
        known = sorted(str(p.relative_to(folder)) for p in folder.glob("*/*.py") if p.parent.name != "_base_")
        do = did_you_mean(name, known)
        raise ConfigError(explain(expected="a config file of mmdet", got=repr(name), where="detector.config", do=do))
    mmcv_ext.install()
    from mmengine.config import Config

    model: dict[str, Any] = Config.fromfile(str(path)).to_dict()["model"]
    return model


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``changes`` at any depth; a dict with ``_delete_: true`` replaces what is there."""
    out = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping) and not value.get("_delete_")
        out[key] = _merged(out[key], value) if both else value
        if isinstance(value, Mapping) and value.get("_delete_"):
            out[key] = {k: v for k, v in value.items() if k != "_delete_"}
    return out


def _prepare(node: Any, num_classes: int, is_head: bool = False) -> None:
    """Set the number of classes of every head for classes; normalize on one device; leave out what downloads."""
    if isinstance(node, list):
        for inner in node:
            _prepare(inner, num_classes, is_head)
    if not isinstance(node, dict):
        return
    if is_head and "num_classes" in node:
        node["num_classes"] = num_classes
    if node.get("type") == "SyncBN":
        node["type"] = "BN"
    init = node.get("init_cfg")
    if isinstance(init, Mapping) and init.get("type") == "Pretrained":
        del node["init_cfg"]
    for key, inner in node.items():
        _prepare(inner, num_classes, is_head or key in ("bbox_head", "roi_head"))
