"""Who knows the truth: only an oracle reads the labels of the pool."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from al_lab.core.boxes import pair_iou
from al_lab.core.errors import DataError, explain
from al_lab.core.files import read_json, write_json
from al_lab.core.pool import file_stem, save_region
from al_lab.core.record.purchase import Purchase, write_labels, write_pixel_labels
from al_lab.core.record.squares import num_clicks
from al_lab.core.types import Annotation, Detections, Query, Region

log = logging.getLogger(__name__)


class Oracle(ABC):
    """Reveals labels, writes them into the run folder and keeps the account of what they cost.

    Args:
        seconds_per_image: to open and search an image.
        seconds_per_box: to draw and classify one box.
        seconds_per_pixel: to name the class at one pixel: a click.
        seconds_per_map: to label every pixel of an image.
    """

    needs_truth: bool = True  # the pool's labels must exist before the campaign
    wants_predictions: bool = False  # pre-labels of the queried images help whoever answers
    only_segments: bool = False  # it answers of whole segments
    wait: bool = False  # a command keeps running while people label

    def __init__(
        self,
        seconds_per_image: float = 2.0,
        seconds_per_box: float = 7.0,
        seconds_per_pixel: float = 2.0,
        seconds_per_map: float = 5400.0,
    ) -> None:
        self.seconds_per_image = seconds_per_image
        self.seconds_per_box = seconds_per_box
        self.seconds_per_pixel = seconds_per_pixel
        self.seconds_per_map = seconds_per_map

    @property
    def rates(self) -> dict[str, float]:
        """The seconds that everything takes, as the constructor takes them."""
        return {k: v for k, v in vars(self).items() if k.startswith("seconds_per_")}

    def check(self, dataset: Any) -> None:  # noqa: B027 - who knows all the labels needs none
        """Refuse what would keep it from asking, or from taking the answers; before a campaign begins.

        Raises:
            LabError: naming the setting, the folder or the server.
        """

    @abstractmethod
    def reveal(self, dataset: Any, purchase: Purchase) -> tuple[Query, ...]:
        """Reveal the labels of a purchase into its folder and return what was really bought.

        Raises:
            AwaitingLabels: if people have to label something first; the same command goes on afterwards.
        """

    def wait_for_news(self, purchase: Purchase) -> None:  # noqa: B027 - who never lets anybody wait needs none
        """Return when `reveal` may find more than it found before; called with ``wait`` only."""

    def deliver(
        self,
        dataset: Any,
        purchase: Purchase,
        annotations: Mapping[str, Annotation],
        asked: Mapping[str, float | None] | None = None,
    ) -> tuple[Query, ...]:
        """Write whole-image labels, their cost and their statistics.

        Stop before the first image a box budget can't pay.

        Args:
            dataset: of the images.
            purchase: what was ordered.
            annotations: sample id to objects.
            asked: sample ids that a person labeled for this purchase, with the seconds spent where the tool knew;
                others were labeled before. None: nobody keeps that account.
        """
        bought: list[Query] = []
        boxes = 0
        for query in purchase.queries:
            count = len(annotations[query.sample_id].labels)
            if purchase.allowance.unit == "box" and boxes + count > purchase.allowance.amount:
                break
            boxes += count
            bought.append(query)
        kept = {q.sample_id: annotations[q.sample_id] for q in bought}
        write_labels(purchase.folder, kept)
        histogram = class_histogram(kept.values(), len(dataset.classes))
        work = {} if asked is None else self._work({i: a for i, a in kept.items() if i in asked}, asked)
        seconds = len(bought) * self.seconds_per_image + boxes * self.seconds_per_box
        counts = {"images": len(bought), "boxes": boxes, "pixels": 0}
        self._account(dataset, purchase, counts, seconds, histogram, work)
        return tuple(bought)

    def deliver_pixels(
        self,
        dataset: Any,
        purchase: Purchase,
        revealed: Iterable[tuple[Query, Region, np.ndarray]],
        work: Mapping[str, float] | None = None,
        clicks: int | None = None,
        as_maps: bool = False,
        facts: Mapping[str, Any] | None = None,
    ) -> tuple[Query, ...]:
        """Write pixel labels, their cost and their statistics.

        Args:
            dataset: of the images.
            purchase: what was ordered.
            revealed: of each query the pixels that were labeled, and their labels, (n,) uint8, 255 for void. A whole
                image may be labeled in part.
            work: what people did for this purchase, for the account.
            clicks: how many they were, where one click named several pixels; None: one for each.
            as_maps: parts of images take their share of a label map's seconds, not a click's for each pixel.
            facts: what else the account of classes says, see `_account`; read when everything is revealed.
        """
        histogram = np.zeros(len(dataset.classes), np.int64)
        pixels = in_parts = whole = 0
        maps = 0.0
        for query, region, labels in revealed:
            if query.region is None:  # the reader of pixel labels finds every purchase by its mask
                save_region(purchase.folder / "masks" / f"{file_stem(query.sample_id)}.npz", region)
                whole, maps = whole + 1, maps + len(region) / float(np.prod(region.size_hw))
            else:
                in_parts += len(region)
                maps += as_maps * len(region) / float(np.prod(region.size_hw))
            write_pixel_labels(purchase.folder, query.sample_id, labels)
            histogram += np.bincount(labels[labels < len(histogram)], minlength=len(histogram))
            pixels += len(labels)
        named = in_parts if clicks is None else clicks
        seconds = whole * self.seconds_per_image + maps * self.seconds_per_map
        seconds += 0 if as_maps else named * self.seconds_per_pixel
        counts = {"images": whole, "boxes": 0, "pixels": pixels, "clicks": named}
        self._account(dataset, purchase, counts, seconds, histogram, work or {}, facts or {})
        return purchase.queries

    def _work(self, labeled: Mapping[str, Annotation], seconds: Mapping[str, float | None]) -> dict[str, float]:
        """Return what people did for this purchase: real seconds where they are known, assumed ones elsewhere."""
        assumed = {i: self.seconds_per_image + len(a.labels) * self.seconds_per_box for i, a in labeled.items()}
        known = {i: s for i in labeled if (s := seconds[i]) is not None}
        return {
            "asked_images": len(labeled),
            "asked_boxes": sum(len(a.labels) for a in labeled.values()),
            "asked_hours": sum((assumed | known).values()) / 3600,
            "timed_images": len(known),
            "timed_hours": sum(known.values()) / 3600,
        }

    def _account(
        self,
        dataset: Any,
        purchase: Purchase,
        counts: Mapping[str, int],
        seconds: float,
        histogram: np.ndarray,
        work: Mapping[str, float],
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        write_json(purchase.folder / "cost.json", {**counts, "hours": seconds / 3600, **work})
        write_json(
            purchase.folder / "oracle_stats.json",
            {
                "classes": list(dataset.classes),
                "bought": histogram.tolist(),
                "pool": self._pool_histogram(dataset, purchase),
                **(facts or {}),
            },
        )

    def judge(self, dataset: Any, predictions: Mapping[str, Detections]) -> dict[str, Any]:
        """Compare boxes a model found in the pool with the truth; whoever doesn't know the truth says so.

        Returns:
            ``precision`` (of all boxes, or None) and ``per_class``: ``{class: {"boxes", "correct"}}``, ``correct`` None
            if unknown.
        """
        counts = np.bincount(
            np.concatenate([d.labels for d in predictions.values()] or [np.zeros(0, np.int64)]),
            minlength=len(dataset.classes),
        )
        return {
            "precision": None,
            "per_class": {c: {"boxes": int(n), "correct": None} for c, n in zip(dataset.classes, counts, strict=True)},
        }

    def peek(self, dataset: Any, sample_id: str) -> Any:
        """Return an image's objects or label map, hidden ones included, for the report only; None: nobody knows it."""
        return dataset.truth(sample_id) if sample_id in dataset.test_ids else None

    def _pool_histogram(self, dataset: Any, purchase: Purchase) -> list[int] | None:
        """Count the classes of the whole pool, hidden labels included: for the report only, read once a run."""
        return None


class SimulatedOracle(Oracle):
    """Answers from the dataset's own ground truth, as papers do.

    Segments are labeled pixel by pixel: that costs their share of a label map's seconds, and a click for each pixel.
    """

    def reveal(self, dataset: Any, purchase: Purchase) -> tuple[Query, ...]:
        """See `Oracle.reveal`; never waits."""
        missing = [q.sample_id for q in purchase.queries if not dataset.has_truth(q.sample_id)]
        if missing:
            raise DataError(
                explain(
                    expected="ground truth of every image that is bought",
                    got=f"none of {missing[0]!r} (and {len(missing) - 1} more)",
                    where=f"dataset {dataset.name!r}",
                    do="use oracle=folder to have people label them",
                )
            )
        if dataset.task == "detection":
            return self.deliver(dataset, purchase, {q.sample_id: dataset.truth(q.sample_id) for q in purchase.queries})
        return self._reveal_pixels(dataset, purchase)

    def _reveal_pixels(self, dataset: Any, purchase: Purchase) -> tuple[Query, ...]:
        revealed = self._true_pixels(dataset, purchase.queries)
        has_segments = any(q.region is not None and q.region.segments is not None for q in purchase.queries)
        return self.deliver_pixels(
            dataset, purchase, revealed, clicks=None if has_segments else num_clicks(purchase), as_maps=has_segments
        )

    @staticmethod
    def _true_pixels(dataset: Any, queries: Sequence[Query]) -> Iterator[tuple[Query, Region, np.ndarray]]:
        for query in queries:
            label_HW = dataset.truth(query.sample_id)
            region = query.region or Region.from_mask(np.ones(label_HW.shape, bool))
            check_region(query, label_HW.shape)
            yield query, region, label_HW.reshape(-1)[region.pixels]

    def judge(self, dataset: Any, predictions: Mapping[str, Detections]) -> dict[str, Any]:
        """See `Oracle.judge`.

        A box is correct if an object of its class overlaps it by more than one half (AL-SSL, Table 1b).
        """
        verdict = super().judge(dataset, predictions)
        if not all(dataset.has_truth(i) for i in predictions):
            return verdict
        correct = np.zeros(len(dataset.classes), np.int64)
        for sample_id, found in predictions.items():
            truth = dataset.truth(sample_id)
            n, m = len(found), len(truth.labels)
            ours, theirs = np.repeat(found.boxes_xyxy, m, 0), np.tile(truth.boxes_xyxy, (n, 1))
            overlap = pair_iou(ours.astype(np.float64), theirs.astype(np.float64)).reshape(n, m)
            hit = ((overlap > 0.5) & (found.labels[:, None] == truth.labels)).any(1)  # noqa: PLR2004 - VOC's overlap
            correct += np.bincount(found.labels[hit], minlength=len(correct))
        for counts, num in zip(verdict["per_class"].values(), correct, strict=True):
            counts["correct"] = int(num)
        boxes = sum(c["boxes"] for c in verdict["per_class"].values())
        return verdict | {"precision": float(correct.sum() / boxes) if boxes else None}

    def peek(self, dataset: Any, sample_id: str) -> Any:
        """See `Oracle.peek`."""
        return dataset.truth(sample_id) if dataset.has_truth(sample_id) else None

    def _pool_histogram(self, dataset: Any, purchase: Purchase) -> list[int] | None:
        cache = purchase.run_dir / "pool_stats.json"
        if not cache.is_file():
            if dataset.task == "detection":
                counts = class_histogram(_readable_truths(dataset), len(dataset.classes))
            else:
                maps = _readable_truths(dataset)
                counts = sum(
                    (
                        np.bincount(t[t < len(dataset.classes)].reshape(-1), minlength=len(dataset.classes))
                        for t in maps
                    ),
                    np.zeros(len(dataset.classes), np.int64),
                )
            write_json(cache, counts.tolist())
        return read_json(cache)


def _readable_truths(dataset: Any) -> Iterator[Any]:
    """Yield the labels of the pool; those of images that can't be read, which a campaign may leave out, are missing."""
    lost = []
    for sample_id in dataset.pool_ids:
        try:
            if dataset.has_truth(sample_id):
                yield dataset.truth(sample_id)
        except DataError as error:
            lost.append(str(error))
    if lost:
        log.warning("%d images of the pool are missing in its class counts, first %s", len(lost), lost[0])


def check_region(query: Query, size_hw: tuple[int, ...]) -> None:
    """Refuse pixels that were chosen in an image of another size.

    Raises:
        DataError: naming both sizes.
    """
    if query.region is not None and query.region.size_hw != size_hw:
        raise DataError(
            explain(
                expected=f"a label map of {query.region.size_hw}",
                got=str(size_hw),
                where=f"sample {query.sample_id!r}",
                do="propose() must work at the image's own size",
            )
        )


def class_histogram(annotations: Any, num_classes: int) -> np.ndarray:
    """Return the number of objects of each class, (C,) int64."""
    labels: Sequence[np.ndarray] = [a.labels for a in annotations]
    return np.bincount(np.concatenate(labels) if labels else np.zeros(0, np.int64), minlength=num_classes)
