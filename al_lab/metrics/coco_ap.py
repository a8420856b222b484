"""Average precision of COCO on detections in memory, computed by faster-coco-eval (pycocotools' numbers, in C++)."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from al_lab.core.errors import ConfigError
from al_lab.core.types import Annotation, Detections
from al_lab.metrics.coco_match import AREAS, IOUS, assign
from al_lab.metrics.result import Metric, MetricResult, check_inputs, mean_of_known, unknown_metric

# name -> (IoU threshold or None for the mean over .5:.05:.95, index of the area range)
_SLICES: dict[str, tuple[float | None, int]] = {
    "coco_ap": (None, 0),
    "coco_ap50": (0.5, 0),
    "coco_ap75": (0.75, 0),
    "coco_ap_small": (None, 1),
    "coco_ap_medium": (None, 2),
    "coco_ap_large": (None, 3),
}
NAMES = tuple(_SLICES)


class CocoAP(Metric):
    """COCO's AP: 101 recall points, at most 100 detections an image and class.

    Crowds are matched by any number of detections and ignored.

    Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, and its evaluation server. VOC's ``difficult``
    is treated as a crowd's ignore flag would be only if the dataset says ``crowd``; use `VocAP` for VOC. A class
    without objects in the test set is left out of the mean.

    Deviations: small, medium and large go by the area of the object's box (< 32^2, < 96^2), as annotations here hold no
    masks; the official files use the masks' areas, so only these three differ from published ones.

    Args:
        names: which numbers; all six cost as much as one.
    """

    def __init__(self, names: Sequence[str] = NAMES) -> None:
        for name in names:
            if name not in NAMES:
                raise ConfigError(unknown_metric(name, NAMES))
        self.names = tuple(names)

    def compute(
        self, predictions: Mapping[str, Detections], truth: Mapping[str, Annotation], classes: Sequence[str]
    ) -> MetricResult:
        """See `Metric.compute`."""
        check_inputs(predictions, truth, classes, "CocoAP")
        # imports matplotlib and pandas where present: only when needed
        from faster_coco_eval import COCO, COCOeval_faster

        target = COCO(coco_truth(truth, classes))
        results = coco_results(predictions, list(truth))
        evaluation = COCOeval_faster(target, target.loadRes(results), iouType="bbox", print_function=_silent)
        evaluation.evaluate()
        evaluation.accumulate()
        precision_TRKA = evaluation.eval["precision"][..., -1]  # -1 where a class has no objects
        num_gt = np.bincount(np.concatenate([a.labels[~a.crowd] for a in truth.values()]), minlength=len(classes))
        num_det = np.bincount(np.concatenate([d.labels for d in predictions.values()]), minlength=len(classes))
        scalars, rows = {}, []
        for name in self.names:
            ap_K = _average(precision_TRKA, evaluation.params.iouThrs, *_SLICES[name])
            if np.isfinite(ap_K).any():  # a size of which the test set has no object has no AP (pycocotools says -1)
                scalars[name] = float(np.nanmean(ap_K))
            rows += [
                {
                    "class": label,
                    "ap": float(ap_K[k]),
                    "num_gt": int(num_gt[k]),
                    "num_det": int(num_det[k]),
                    "metric": name,
                }
                for k, label in enumerate(classes)
            ]
        return MetricResult(scalars, rows)

    def resampled(
        self,
        predictions: Mapping[str, Detections],
        truth: Mapping[str, Annotation],
        classes: Sequence[str],
        weights_BN: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """See `Metric.resampled`."""
        found, objects = [predictions[i] for i in truth], list(truth.values())
        values: dict[str, np.ndarray] = {}
        for area in sorted({_SLICES[name][1] for name in self.names}):
            ap_BKT = np.full((len(weights_BN), len(classes), len(IOUS)), np.nan)
            for k, assigned in enumerate(assign(found, objects, len(classes), AREAS[area])):
                ap_BKT[:, k] = [assigned.ap(weight_N) for weight_N in weights_BN]
            for name in (n for n in self.names if _SLICES[n][1] == area):
                iou = _SLICES[name][0]
                ap_BK = ap_BKT.mean(2) if iou is None else ap_BKT[:, :, int(np.flatnonzero(np.isclose(IOUS, iou))[0])]
                values[name] = mean_of_known(ap_BK)
        return values


def _average(precision_TRKA: np.ndarray, thresholds: np.ndarray, iou: float | None, area: int) -> np.ndarray:
    """Return each class's AP, (K,); NaN without objects of that size."""
    if iou is None:
        precision_K: np.ndarray = precision_TRKA[:, :, :, area].reshape(-1, precision_TRKA.shape[2])
    else:
        precision_K = precision_TRKA[np.flatnonzero(np.isclose(thresholds, iou))[0], :, :, area]
    return np.where((precision_K > -1).any(0), precision_K.mean(0), np.nan)


def coco_truth(truth: Mapping[str, Annotation], classes: Sequence[str]) -> dict[str, Any]:
    """Return ground truth as COCO's dictionary; images are numbered from 1 in order, classes from 1."""
    annotations: list[dict[str, Any]] = []
    for image_id, annotation in enumerate(truth.values(), start=1):
        xywh: np.ndarray = annotation.boxes_xyxy.astype(np.float64)
        xywh[:, 2:] -= xywh[:, :2]
        labels, crowds = annotation.labels.tolist(), annotation.crowd.tolist()
        for box, label, crowd in zip(cast(list[Any], xywh.tolist()), labels, crowds, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": label + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(crowd),
                }
            )
    return {
        "info": {},
        "images": [{"id": n} for n in range(1, len(truth) + 1)],
        "annotations": annotations,
        "categories": [{"id": k, "name": name} for k, name in enumerate(classes, start=1)],
    }


def coco_results(predictions: Mapping[str, Detections], ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return detections as COCO's list of results, with the numbers of `coco_truth`."""
    results = []
    for image_id, sample_id in enumerate(ids, start=1):
        found = predictions[sample_id]
        xywh: np.ndarray = found.boxes_xyxy.astype(np.float64)
        xywh[:, 2:] -= xywh[:, :2]
        results += [
            {"image_id": image_id, "category_id": label + 1, "bbox": box, "score": score}
            for box, label, score in zip(
                cast(list[Any], xywh.tolist()), found.labels.tolist(), found.confidence.tolist(), strict=True
            )
        ]
    return results


def _silent(*_: object) -> None:
    """Swallow the library's progress lines."""
