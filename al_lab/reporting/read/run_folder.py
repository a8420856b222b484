"""Read a run folder as it is: finished, under way, or damaged.

What can't be read becomes a note that names the file.
"""

import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.core.fields import LONGEST_TEXT, shown
from al_lab.core.pool import INITIAL, TEST, load_mask, load_region, purchase_dir
from al_lab.core.record.predictions import load_predictions
from al_lab.core.types import Candidates, Detections
from al_lab.reporting.read.files import RunFiles, name_of

log = logging.getLogger(__name__)

# Where the dataset lists no metrics, the first of these that a run has is the one its curves show.
PREFERRED_METRICS = ("coco_ap", "voc07_ap50", "voc_area_ap50", "miou", "miou13", "dice", "coco_ap50")
METRIC_LABELS = {
    "coco_ap": "COCO AP",
    "coco_ap50": "COCO AP50",
    "voc07_ap50": "VOC07 AP50",
    "voc_area_ap50": "VOC area AP50",
    "miou": "mIoU",
    "miou13": "mIoU, 13 classes",
    "foreground_iou": "foreground IoU",
    "dice": "mean Dice",
    "foreground_dice": "foreground Dice",
    "boundary_iou": "mean boundary IoU",
    "hd95": "95 % Hausdorff distance, px",
}
IN_PIXELS = ("hd95",)  # smaller is better; the others are shares, larger is better
PEOPLE = ("folder", "label_studio")  # oracles that ask people
_MOST = 1e15  # images, boxes, pixels; more is no count
_NOT_A_METRIC = re.compile(r"^(cycle|num_.*|spent.*|cost.*|hours|seconds|.*_seconds|.*loss.*|lr|step|epoch|skipped)$")


@dataclass(frozen=True)
class Choice:
    """One image that was bought."""

    sample_id: str
    utility: float | None
    image: Path | None
    boxes_xyxy: np.ndarray  # (G, 4), pixels of the original image
    labels: tuple[str, ...]  # (G,) class names
    mask: Path | None = None  # the pixels bought, where it was not the whole image
    has_map: bool = False  # what came back is a class for every pixel, not objects


@dataclass(frozen=True)
class ClassCounts:
    """Objects (or pixels) of each class."""

    classes: tuple[str, ...]
    bought: np.ndarray  # (C,)
    pool: np.ndarray | None  # (C,), hidden labels included; None where nobody knows them
    judged: float = 0.0  # labeled pixels that got the class of their segment
    wrong: np.ndarray | None = None  # (2, C) of these: have the class and got another; got it and have another


@dataclass
class Run(RunFiles):
    """One run folder; `al_lab.reporting.read.find.read_run` makes it.

    Attributes:
        config: as `al_lab.reporting.read.tidy.tidy_config` leaves it.
        metrics: one row per evaluated cycle, ascending; the last line of a cycle counts.
        ledger: the committed stages, in order.
    """

    config: dict[str, Any]
    environment: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    ledger: list[dict[str, Any]] = field(default_factory=list)

    @property
    def choices(self) -> Mapping[str, Any]:
        """The names of the chosen config groups."""
        value = self.config.get("choices")
        return value if isinstance(value, Mapping) else {}

    @property
    def strategy(self) -> str:
        """Name of the strategy; the folder's, where the config doesn't say."""
        return name_of(self.choices.get("strategy") or self._folder(2) or "strategy")

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        node = self.config.get("dataset")
        name = node.get("name") if isinstance(node, Mapping) else None
        return name_of(name or self.choices.get("dataset") or self._folder(3) or "dataset")

    @property
    def name(self) -> str:
        """Slug of the overrides."""
        return name_of(self.config.get("name") or self._folder(1) or "default")

    @property
    def seed(self) -> int:
        """The training seed; 0 is a seed."""
        value = self.config.get("seed")
        return value if isinstance(value, int) else 0

    @property
    def planned_cycles(self) -> int | None:
        """Number of evaluated cycles when the run is complete; None if the config doesn't say."""
        cycles = _node(self.config, "budget").get("cycles")
        return int(cycles) + 1 if isinstance(cycles, int) else None

    @property
    def last_cycle(self) -> int | None:
        """The last cycle with metrics, None before the first."""
        return int(self.metrics[-1]["cycle"]) if self.metrics else None

    @property
    def is_complete(self) -> bool:
        """Whether every planned cycle was evaluated."""
        return (
            self.planned_cycles is not None
            and self.last_cycle is not None
            and self.last_cycle + 1 >= self.planned_cycles
        )

    @property
    def is_full(self) -> bool:
        """Whether this run trains once on everything: the full-data line."""
        budget = _node(self.config, "budget")
        initial = budget.get("initial")
        everything = isinstance(initial, float) and initial >= 1.0
        size = self.pool_size
        bought = self.metrics[0].get("num_labeled", self.metrics[0].get("spent_images")) if self.metrics else None
        return budget.get("cycles") == 0 and (everything or (size is not None and bought == size))

    @property
    def is_bare(self) -> bool:
        """Whether this run trains once without a label of the pool: what an adaptation gets from its source alone."""
        budget = _node(self.config, "budget")
        return budget.get("cycles") == 0 and budget.get("initial") == 0

    @property
    def is_level(self) -> bool:
        """Whether this run is one point that others are measured by, not a curve."""
        return self.is_full or self.is_bare

    @property
    def is_one_training(self) -> bool:
        """Whether cycles go on with one training: then only the last model is a finished one."""
        return _node(self.config, "trainer").get("start") == "continue"

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics in the rows, the preferred one first."""
        names = {
            k
            for row in self.metrics
            for k, v in row.items()
            if isinstance(v, float | int) and not _NOT_A_METRIC.match(k)
        }
        asked = _node(self.config, "dataset").get("metrics")  # its first one is the curve's
        order = [*(asked if isinstance(asked, list) else ()), *PREFERRED_METRICS]
        return tuple(sorted(names, key=lambda n: (order.index(n) if n in order else len(order), n)))

    @cached_property
    def cycle_dirs(self) -> dict[int, Path]:
        """The cycle folders that exist."""
        found = (
            p for p in self.path.glob("cycle_*") if re.fullmatch(r"cycle_\d{2,6}", p.name, re.ASCII) and p.is_dir()
        )
        return dict(sorted((int(p.name[6:]), p) for p in found if self.is_inside(p)))

    @cached_property
    def pool(self) -> dict[str, Any]:
        """The latest pool.json; empty before the first."""
        return self.pool_at(max(self.cycle_dirs, default=0))

    def pool_at(self, cycle: int) -> dict[str, Any]:
        """pool.json of this cycle, or of the nearest before it that has one."""
        for folder in reversed([d for c, d in self.cycle_dirs.items() if c <= cycle]):
            value = self.read_object(folder / "pool.json")
            if value is not None:
                return value
        return {}

    def labeled_ids(self, cycle: int) -> set[str]:
        """Samples that were labeled, whole or in part, when this cycle began."""
        pool = self.pool_at(cycle)
        found = [pool.get(key) for key in ("whole", "parts")]
        if not all(isinstance(of, dict) for of in found if of is not None):
            self.note("pool.json: expected whole and parts to be mappings; what is none is taken for empty.")
        return {str(i) for of in found if isinstance(of, dict) for i in of}

    @property
    def pool_size(self) -> int | None:
        """Number of images in the pool, None if no pool was written yet."""
        size = self.pool.get("num_ids")
        return size if isinstance(size, int) and not isinstance(size, bool) and 0 < size < _MOST else None

    @property
    def purchases(self) -> tuple[int, ...]:
        """The purchases that exist, the initial one (`INITIAL`) first."""
        return tuple(c for c in (INITIAL, *self.cycle_dirs) if self._purchase_path(c, "queries.json").exists())

    @property
    def tests_itself(self) -> bool:
        """Whether the run bought its test set, too."""
        return self._purchase_path(TEST, "cost.json").exists()

    @property
    def awaited(self) -> int:
        """Number of images that people were asked to label and that have not come back."""
        if self.choices.get("oracle") not in PEOPLE or not self.purchases:
            return 0
        last = self.purchases[-1]
        if any(self._purchase_path(last, name).exists() for name in ("labels.jsonl", "cost.json")):
            return 0
        path = self._purchase_path(last, "accepted.jsonl")
        rows = self.read_lines(path) if path.exists() else []
        # Of an image whose points are named in part, some are open.
        accepted = {r["id"] for r in rows if isinstance(r.get("id"), str) and not r.get("open")}
        return max(0, len(self._queries(last)) - len(accepted))

    @property
    def asks_in(self) -> Path | str:
        """The folder, or the server's address, where people find what the last purchase asks for."""
        if self.choices.get("oracle") == "label_studio":
            return str(_node(self.config, "oracle").get("url") or "Label Studio")
        shared = _node(self.config, "oracle").get("folder")
        root = Path(str(shared)) / "-".join(self.path.parts[-4:]) if shared else self.path / "to_label"
        last = self.purchases[-1] if self.purchases else INITIAL
        return root / ("initial" if last == INITIAL else f"cycle_{last:02d}")

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order: the oracle's, else the config's, else per_class.csv's, else none."""
        for cycle in self.purchases:
            stats = self.oracle_stats(cycle)
            if stats:
                return tuple(stats.classes)
        node = _node(self.config, "dataset").get("classes")
        if isinstance(node, list) and node:
            return tuple(map(name_of, node))
        return next((tuple(rows) for rows in map(self.per_class, self.cycle_dirs) if rows), ())

    def column(self, name: str) -> list[float]:
        """One column of the metrics; NaN where a row lacks it."""
        return [number_of(row.get(name)) for row in self.metrics]

    def candidates(self, cycle: int) -> Candidates | None:
        """What could have been bought in this cycle; None if it was not written or can't be read."""
        return self.load(self._cycle_path(cycle, "candidates.npz"), Candidates.load, "its utilities are")

    def pseudo_boxes(self, cycle: int) -> dict[str, Detections] | None:
        """What this cycle's model was sure of in unlabeled images; None if nothing was kept or it can't be read."""
        path = self._cycle_path(cycle, "pseudo.npz")
        return self.load(path, lambda p: load_predictions([p]), "its pseudo-labels are")

    def mask(self, path: Path) -> np.ndarray | None:
        """The pixels bought in an image, (H, W) bool; None if they can't be read."""
        return self.load(path, load_mask, "its pixels are")

    def outlines(self, path: Path) -> np.ndarray | None:
        """Where the segments bought in an image touch, (H, W) bool; None if it was not bought by segments."""
        region = self.load(path, load_region, "its segments are")
        if region is None or region.segments is None:
            return None
        map_HW = np.full(region.size_hw, -1, np.int32)
        map_HW.reshape(-1)[region.pixels] = region.segments
        edge_HW = np.zeros(region.size_hw, bool)
        edge_HW[:, 1:] |= map_HW[:, 1:] != map_HW[:, :-1]
        edge_HW[1:] |= map_HW[1:] != map_HW[:-1]
        return edge_HW

    def pseudo_stats(self, cycle: int) -> dict[str, Any] | None:
        """What the oracle counted of this cycle's pseudo-labels; None if it left no (readable) count."""
        path = self._cycle_path(cycle, "pseudo_stats.json")
        value = self.read_object(path)
        if value is None:
            return None
        if not all(_is_count(value.get(k)) for k in ("unlabeled", "images", "boxes")):
            self.left_out(path, "it has no counts", "its pseudo-labels are")
            return None
        return value

    def per_class(self, cycle: int, metric: str | None = None) -> dict[str, float]:
        """Class name -> value of ``metric`` (the preferred one by default) in this cycle; empty if there is none."""
        rows = self.read_csv(self._cycle_path(cycle, "per_class.csv"))
        metric = metric or (self.metric_names[0] if self.metric_names else "")
        if rows and "metric" in rows[0]:
            rows = [r for r in rows if r.get("metric") == metric]
        values: dict[str, float] = {}
        for row in rows:
            name = row.get("class")
            if name is not None:
                values[name_of(name)] = number_of(row.get(metric) or row.get("ap"))
        return values

    def resampled(self, cycle: int, metric: str) -> tuple[str, np.ndarray] | None:
        """Return which test images a metric was resampled over, and its values.

        None if that was not done or can't be read.
        """
        path = self._cycle_path(cycle, "resampled.json")
        value = self.read_object(path) if path.exists() else None
        found = value.get("metrics") if value is not None else None
        values = found.get(metric) if isinstance(found, Mapping) else None
        if value is None or not isinstance(values, list):
            return None
        return str(value.get("images")), np.asarray([number_of(v) for v in values], float)

    def oracle_stats(self, cycle: int) -> ClassCounts | None:
        """Classes of one purchase as the oracle counted them; None if it left no (readable) count."""
        path = self._purchase_path(cycle, "oracle_stats.json")
        value = self.read_object(path)
        if value is None:
            return None
        names, bought, pool = (value.get(k) for k in ("classes", "bought", "pool"))
        if not isinstance(names, list) or not _are_counts(bought, len(names)):
            self.left_out(path, "it has no counts per class", "they are")
            return None
        pool_C = np.asarray(pool, float) if _are_counts(pool, len(names)) else None
        found = ClassCounts(tuple(map(name_of, names)), np.asarray(bought, float), pool_C)
        said = value.get("dominant")
        if not isinstance(said, Mapping) or not _is_count(said.get("pixels")):
            return found
        wrong = [said.get(k) for k in ("lost", "invented")]
        if not all(_are_counts(w, len(names)) for w in wrong):
            self.left_out(path, "it has no counts of wrong pixels per class", "they are")
            return found
        return replace(found, judged=float(said["pixels"]), wrong=np.asarray(wrong, float))

    def class_counts(self) -> ClassCounts | None:
        """Classes of everything bought so far, against the pool."""
        stats = [s for s in map(self.oracle_stats, self.purchases) if s is not None]
        if not stats or any(s.classes != stats[0].classes for s in stats):
            return None
        pool = next((s.pool for s in stats if s.pool is not None), None)
        wrong = [s.wrong for s in stats if s.wrong is not None]
        return ClassCounts(
            stats[0].classes,
            np.sum([s.bought for s in stats], axis=0),
            pool,
            sum(s.judged for s in stats),
            np.sum(wrong, axis=0) if wrong else None,
        )

    def cost(self, cycle: int) -> dict[str, float]:
        """What a purchase cost; empty if nothing was bought."""
        path = self._purchase_path(cycle, "cost.json")
        value = self.read_object(path) or {}
        costs = {k: number_of(v) for k, v in value.items()}
        wrong = [k for k, v in costs.items() if not 0 <= v < _MOST]
        if wrong:
            self.left_out(path, f"{name_of(wrong[0])} is no cost", "that is")
        return {k: v for k, v in costs.items() if k not in wrong}

    def bought(self, cycle: int) -> list[Choice]:
        """What was bought at the end of this cycle (`INITIAL`: before cycle 0), in rank order, with its labels.

        A box budget or a person may return less than was asked for: only what came back counts.
        """
        labels = self._labels(self._purchase_path(cycle, "labels.jsonl"))
        if labels is None and not self._purchase_path(cycle, "pixel_labels").is_dir():
            return []  # asked for, not answered yet
        choices = []
        for row in self._queries(cycle):
            sample_id, utility, mask = row["id"], row.get("utility"), row.get("mask")
            if labels is not None and sample_id not in labels:
                continue
            boxes, names = (labels or {}).get(sample_id, (np.zeros((0, 4)), ()))
            image = self.image(row.get("image"))
            pixels = self._purchase_path(cycle, mask) if isinstance(mask, str) and mask else None
            if pixels is not None and not self.is_inside(pixels):
                self.note(f"The mask {name_of(mask)} lies outside of the run folder; it is left out.")
                pixels = None
            choices.append(
                Choice(
                    sample_id,
                    None if utility is None else number_of(utility),
                    image,
                    boxes,
                    names,
                    pixels,
                    has_map=labels is None and pixels is None,
                )
            )
        return choices

    def _queries(self, cycle: int) -> list[dict[str, Any]]:
        """The rows of queries.json that name an image."""
        path = self._purchase_path(cycle, "queries.json")
        value = self.read_object(path)
        rows = value.get("queries") if value is not None else []
        if not isinstance(rows, list):
            self.left_out(path, f"expected a list of queries, got {shown(rows)}")
            return []
        good = [r for r in rows if isinstance(r, dict) and isinstance(r.get("id"), str)]
        if len(good) < len(rows):
            self.left_out(path, f"{len(rows) - len(good)} of {len(rows)} queries name no image", "those are")
        return [{**row, "id": row["id"][:LONGEST_TEXT]} for row in good]

    def _labels(self, path: Path) -> dict[str, tuple[np.ndarray, tuple[str, ...]]] | None:
        if not path.exists():
            return None
        out, wrong = {}, 0
        for row in self.read_lines(path):
            try:
                sample_id, node = row["id"], row["annotation"] or {}
                boxes = np.asarray(node.get("boxes_xyxy", []), float).reshape(-1, 4)
                names = tuple(self.class_name(v) for v in node.get("labels", []))
                if not isinstance(sample_id, str) or len(names) != len(boxes):
                    raise ValueError("no label for each box")
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
                wrong += 1
                continue
            out[sample_id] = (boxes, names)
        if wrong:
            self.left_out(path, f"{wrong} lines are no annotation", "those are")
        return out

    def class_name(self, label: Any) -> str:
        """Name of a label (an index into the classes, or a name already)."""
        if isinstance(label, int) and 0 <= label < len(self.classes):
            return self.classes[label]
        return name_of(label)

    def _purchase_path(self, cycle: int, name: str) -> Path:
        return purchase_dir(self.path, cycle) / name

    def _cycle_path(self, cycle: int, name: str) -> Path:
        return self.cycle_dirs.get(cycle, self.path / f"cycle_{cycle:02d}") / name

    def _folder(self, levels_up: int) -> str:
        parents = [self.path, *self.path.parents]
        return parents[levels_up].name if len(parents) > levels_up else ""


def _node(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = config.get(key)
    return value if isinstance(value, Mapping) else {}


def number_of(value: Any) -> float:
    """Return a cell as a number; what is none becomes NaN."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _is_count(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST


def _are_counts(values: Any, length: int) -> bool:
    return isinstance(values, list) and len(values) == length and all(map(_is_count, values))
