"""The records that travel between stages; they check themselves, so no one else has to.

Boxes are xyxy, absolute pixels of the original image, continuous and 0-based (width = x2 - x1). Sizes are (height,
width).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from al_lab.core.arrays import Column, load_arrays
from al_lab.core.documents import Entry
from al_lab.core.errors import DataError, explain
from al_lab.core.fields import at_least, coordinate, flag, list_of
from al_lab.core.files import atomic_path

Activation = Literal["softmax", "sigmoid", "softmax_fg"]

_LABELS = list_of(at_least(0))
_BOX = list_of(coordinate, length=4)


def _require(condition: bool, where: str, expected: str, got: str) -> None:
    if not condition:
        raise DataError(explain(expected=expected, got=got, where=where, do="fix the code or file that produced it"))


@dataclass(frozen=True)
class Annotation:
    """Ground truth of one image: G objects.

    Attributes:
        boxes_xyxy: (G, 4) float32.
        labels: (G,) int64, 0..C-1.
        difficult: (G,) bool, VOC's flag; all False elsewhere.
        crowd: (G,) bool, COCO's flag; all False elsewhere.
    """

    boxes_xyxy: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    crowd: np.ndarray

    def __post_init__(self) -> None:
        n = len(self.labels)
        _require(self.boxes_xyxy.shape == (n, 4), "Annotation", f"boxes of shape ({n}, 4)", str(self.boxes_xyxy.shape))
        _require(
            len(self.difficult) == n == len(self.crowd),
            "Annotation",
            f"{n} flags",
            f"{len(self.difficult)} difficult and {len(self.crowd)} crowd",
        )
        _require(bool(np.isfinite(self.boxes_xyxy).all()), "Annotation", "finite boxes", "NaN or inf")

    @classmethod
    def make(cls, boxes: Any, labels: Any, difficult: Any = None, crowd: Any = None) -> "Annotation":
        """Build from anything array-like; missing flags are False."""
        labels = np.asarray(labels, dtype=np.int64).reshape(-1)
        flags = [
            np.zeros(len(labels), bool) if f is None else np.asarray(f, bool).reshape(-1) for f in (difficult, crowd)
        ]
        return cls(np.asarray(boxes, dtype=np.float32).reshape(-1, 4), labels, *flags)

    def to_json(self) -> dict[str, list]:
        """Return plain lists; float32 survives the round trip exactly."""
        return {name: getattr(self, name).tolist() for name in ("boxes_xyxy", "labels", "difficult", "crowd")}

    @classmethod
    def from_json(cls, entry: Entry) -> "Annotation":
        """Rebuild what `to_json` returned.

        Raises:
            LabError: of the entry's kind, naming the field that makes no sense.
        """
        labels = entry.read("labels", _LABELS)
        boxes = entry.read("boxes_xyxy", list_of(_BOX, length=len(labels)))
        flags = list_of(flag, length=len(labels))
        return cls.make(boxes, labels, entry.read("difficult", flags), entry.read("crowd", flags))


@dataclass(frozen=True)
class Detections:
    """What a detector found in one image: D boxes, most confident first.

    Attributes:
        boxes_xyxy: (D, 4) float32.
        confidence: (D,) float32, the probability of ``labels``.
        labels: (D,) int64, 0..C-1.
        probs: (D, K) float32, the whole class distribution of each box. With ``softmax`` K = C + 1 and column 0 is
            background, so label l is column l + 1; with ``sigmoid`` and ``softmax_fg`` (one choice among the C classes,
            none of which is background) K = C.
        activation: which of the three.
        flip_probs: (D, K) float32, the class distributions of the same boxes in the flipped image, NaN where it has no
            such box; None if nobody looked.
        anchor: (D,) int32, the anchor each box was predicted at; None where a detector has none.
        pre_suppression_count: (D,) int32, boxes that non-maximum suppression merged into each, itself included; None if
            nobody counted.
    """

    boxes_xyxy: np.ndarray
    confidence: np.ndarray
    labels: np.ndarray
    probs: np.ndarray
    activation: Activation = "softmax"
    flip_probs: np.ndarray | None = None
    anchor: np.ndarray | None = None
    pre_suppression_count: np.ndarray | None = None

    def __post_init__(self) -> None:
        n = len(self.confidence)
        shapes = (self.boxes_xyxy.shape[0], len(self.labels), self.probs.shape[0])
        _require(shapes == (n, n, n), "Detections", f"{n} boxes, labels and distributions", str(shapes))
        known = get_args(Activation)
        _require(self.activation in known, "Detections", f"one of {', '.join(known)}", self.activation)

    def __len__(self) -> int:
        return len(self.confidence)

    @classmethod
    def none(cls, num_probs: int, activation: Activation = "softmax") -> "Detections":
        """Return the detections of an image in which nothing was found."""
        return cls(
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.float32),
            np.zeros(0, np.int64),
            np.zeros((0, num_probs), np.float32),
            activation,
        )

    def above(self, min_confidence: float) -> "Detections":
        """Return the detections of at least this confidence.

        Filtering after non-maximum suppression equals filtering before it: an outcome depends on more confident boxes
        only.
        """
        return self.rows(self.confidence >= min_confidence)

    def rows(self, keep: np.ndarray) -> "Detections":
        """Return some of the boxes, by mask or index."""
        columns = {
            name: None if (values := getattr(self, name)) is None else values[keep]
            for name in ("flip_probs", "anchor", "pre_suppression_count")
        }
        return Detections(
            self.boxes_xyxy[keep],
            self.confidence[keep],
            self.labels[keep],
            self.probs[keep],
            self.activation,
            **columns,
        )


@dataclass(frozen=True)
class ImageView:
    """What a learner says of one image as a whole; a strategy sees this and never the truth.

    Attributes:
        detections: None if the strategy doesn't need them.
        flip_detections: the boxes by which the image is compared with its flipped image, with ``flip_probs``; None if
            not needed.
        embedding: (E,) float32 or None.
        extras: other arrays a strategy declared in ``needs``.
    """

    sample_id: str
    size_hw: tuple[int, int] | None = None
    detections: Detections | None = None
    embedding: np.ndarray | None = None
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)
    flip_detections: Detections | None = None


@dataclass(frozen=True)
class DenseView:
    """What a learner says of every pixel of one image.

    Attributes:
        probs: (C, H, W) torch tensor on the learner's device, at the image's own size.
        features: (D, h, w) torch tensor or None.
        bought: (H, W) bool, pixels whose label was bought already; None if none was.
        segments: (H, W) int16, the segment of each pixel, 0..R-1; None where segments are not bought.
        image: (H, W, 3) uint8 RGB, for strategies that look at it (``data_needs``).
    """

    sample_id: str
    size_hw: tuple[int, int]
    probs: Any
    features: Any = None
    extras: Mapping[str, Any] = field(default_factory=dict)
    bought: np.ndarray | None = None
    embedding: np.ndarray | None = None
    segments: np.ndarray | None = None
    image: np.ndarray | None = None


@dataclass(frozen=True)
class Region:
    """Some pixels of an image.

    Attributes:
        pixels: sorted, unique, flat (row-major) indices into ``size_hw``.
        size_hw: of the image.
        segments: of each pixel the segment with which it is bought, (n,) int16; None: it is bought by itself, or with
            its square.
    """

    pixels: np.ndarray
    size_hw: tuple[int, int]
    segments: np.ndarray | None = None

    def __post_init__(self) -> None:
        p = self.pixels
        ok = p.ndim == 1 and (
            len(p) == 0 or (p[0] >= 0 and p[-1] < np.prod(self.size_hw) and bool((np.diff(p) > 0).all()))
        )
        _require(ok, "Region", f"sorted unique pixel indices below {self.size_hw[0]}x{self.size_hw[1]}", "others")
        fits = self.segments is None or self.segments.shape == p.shape
        _require(fits, "Region", f"a segment for each of {len(p)} pixels", "others")

    def __len__(self) -> int:
        return len(self.pixels)

    def mask(self) -> np.ndarray:
        """Return the (H, W) bool mask."""
        mask = np.zeros(int(np.prod(self.size_hw)), bool)
        mask[self.pixels] = True
        return mask.reshape(self.size_hw)

    @classmethod
    def from_mask(cls, mask: np.ndarray) -> "Region":
        """Return the region of the true pixels of an (H, W) mask."""
        return cls(np.flatnonzero(mask), (int(mask.shape[0]), int(mask.shape[1])))

    @classmethod
    def of_segments(cls, segments_HW: np.ndarray, chosen: Any) -> "Region":
        """Return the region of some segments of a map, (H, W) int16."""
        region = cls.from_mask(np.isin(segments_HW, np.asarray(chosen)))
        return cls(region.pixels, region.size_hw, segments_HW.reshape(-1)[region.pixels].astype(np.int16))

    def parts(self) -> list[np.ndarray]:
        """Return the pixels of each segment, by its number; none of a region without segments."""
        if self.segments is None:
            return []
        order = np.argsort(self.segments, kind="stable")
        cuts = np.flatnonzero(np.diff(self.segments[order])) + 1
        return [part for part in np.split(self.pixels[order], cuts) if len(part)]


@dataclass(frozen=True)
class Query:
    """What is bought: an image (``region`` None) or some pixels of it."""

    sample_id: str
    region: Region | None = None
    utility: float = 0.0


@dataclass(frozen=True)
class Candidates:
    """Everything that could be bought, in columns; N candidates of M images.

    Attributes:
        sample_ids: the M images.
        sample: (N,) int32, whose candidate it is.
        utility: (N,) float64, higher is always bought first.
        center: (N,) int64 flat pixel index of a region's center; None: a candidate is a whole image (N = M).
        radius_px: a region is the square window of side 2r + 1 around its center, clipped at the border.
        size_hw: (M, 2) int32, needed with ``center``.
        info: small arrays a strategy wants to keep, each (M, …).
        segment: (N,) int32 number of a candidate that is a segment, in its image's map; ``center`` is its first pixel.
        cost: (N,) int64, how many pixels a segment has.
        columns: arrays a strategy wants to keep of each candidate, (N, …).
        map_of: sample id to (H, W) map of segments; not saved, see `with_maps`.
    """

    sample_ids: tuple[str, ...]
    sample: np.ndarray
    utility: np.ndarray
    center: np.ndarray | None = None
    radius_px: int = 0
    size_hw: np.ndarray | None = None
    info: Mapping[str, np.ndarray] = field(default_factory=dict)
    segment: np.ndarray | None = None
    cost: np.ndarray | None = None
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    map_of: Callable[[str], np.ndarray] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        bad = np.flatnonzero(~np.isfinite(self.utility))
        if len(bad):
            name = self.sample_ids[self.sample[bad[0]]]
            raise DataError(
                explain(
                    expected="finite utilities",
                    got=f"{len(bad)} that are not, the first of sample {name!r}",
                    where="Candidates",
                    do="look at the strategy's propose() for that sample",
                )
            )
        _require(
            len(self.sample) == len(self.utility),
            "Candidates",
            "one sample a utility",
            f"{len(self.sample)}/{len(self.utility)}",
        )
        _require(len(set(self.sample_ids)) == len(self.sample_ids), "Candidates", "unique sample ids", "repeated ones")
        for name, array in self.info.items():
            _require(
                len(array) == len(self.sample_ids),
                f"Candidates.info[{name!r}]",
                f"{len(self.sample_ids)} rows",
                str(len(array)),
            )
        for name, column in {"segment": self.segment, "cost": self.cost, **self.columns}.items():
            fits = column is None or len(column) == len(self.utility)
            _require(fits, f"Candidates.{name}", f"{len(self.utility)} rows", "others")

    def __len__(self) -> int:
        return len(self.utility)

    @classmethod
    def images(cls, ids: Sequence[str], utility: Any, **info: Any) -> "Candidates":
        """Whole images, one candidate each."""
        return cls(
            tuple(ids),
            np.arange(len(ids), dtype=np.int32),
            np.asarray(utility, np.float64).reshape(-1),
            info={k: np.asarray(v) for k, v in info.items()},
        )

    @classmethod
    def pixels(
        cls, sample_id: str, size_hw: tuple[int, int], center: Any, utility: Any, radius_px: int = 0, **info: Any
    ) -> "Candidates":
        """Pixels (or windows) of one image; ``info`` values are this image's, without the leading axis."""
        center = np.asarray(center, np.int64).reshape(-1)
        return cls(
            (sample_id,),
            np.zeros(len(center), np.int32),
            np.asarray(utility, np.float64).reshape(-1),
            center,
            radius_px,
            np.asarray([size_hw], np.int32),
            {k: np.asarray(v)[None] for k, v in info.items()},
        )

    @classmethod
    def segments(
        cls,
        sample_id: str,
        segments_HW: np.ndarray,
        segment: Any,
        utility: Any,
        columns: Mapping[str, Any] | None = None,
    ) -> "Candidates":
        """Segments of one image.

        Args:
            sample_id: the image.
            segments_HW: its map, int16.
            segment: (N,) numbers in it.
            utility: (N,).
            columns: of each candidate, (N, …).
        """
        height, width = segments_HW.shape
        segment = np.asarray(segment, np.int32).reshape(-1)
        area_R = np.bincount(segments_HW.reshape(-1))
        first_R = np.zeros(len(area_R), np.int64)
        numbers, first = np.unique(segments_HW, return_index=True)
        first_R[numbers] = first
        return cls(
            (sample_id,),
            np.zeros(len(segment), np.int32),
            np.asarray(utility, np.float64).reshape(-1),
            first_R[segment],
            size_hw=np.asarray([(height, width)], np.int32),
            segment=segment,
            cost=area_R[segment].astype(np.int64),
            columns={k: np.asarray(v) for k, v in (columns or {}).items()},
        )

    def with_maps(self, map_of: Callable[[str], np.ndarray]) -> "Candidates":
        """Return the candidates with the maps their segments are of."""
        return replace(self, map_of=map_of)

    @classmethod
    def concat(cls, parts: Sequence["Candidates"]) -> "Candidates":
        """Join the candidates of different images, in the order given."""
        if not parts:
            return cls.images([], [])
        if len({p._kind for p in parts}) > 1:
            raise DataError(
                explain(
                    expected="candidates of one kind (images, pixels or segments, one radius, the same columns)",
                    got="a mixture",
                    where="Candidates.concat",
                    do="let propose() return the same columns for every image",
                )
            )
        offsets = np.cumsum([0, *(len(p.sample_ids) for p in parts)])
        first = parts[0]
        return cls(
            tuple(i for p in parts for i in p.sample_ids),
            np.concatenate([p.sample + o for p, o in zip(parts, offsets[:-1], strict=True)]).astype(np.int32),
            np.concatenate([p.utility for p in parts]),
            None if first.center is None else np.concatenate([p.center for p in parts]),
            first.radius_px,
            None if first.size_hw is None else np.concatenate([p.size_hw for p in parts]),
            {k: np.concatenate([p.info[k] for p in parts]) for k in first.info},
            segment=None if first.segment is None else np.concatenate([p.segment for p in parts]),
            cost=None if first.cost is None else np.concatenate([p.cost for p in parts]),
            columns={k: np.concatenate([p.columns[k] for p in parts]) for k in first.columns},
        )

    @property
    def _kind(self) -> tuple[Any, ...]:
        is_segment = self.segment is not None
        return (self.center is None, self.radius_px, is_segment, tuple(sorted(self.info)), tuple(sorted(self.columns)))

    def region_of(self, n: int) -> Region | None:
        """Return the pixels of candidate ``n``; None for a whole image."""
        if self.center is None or self.size_hw is None:
            return None
        if self.segment is not None:
            return self.region_of_segments(np.array([n]))
        height, width = (int(v) for v in self.size_hw[self.sample[n]])
        y, x = divmod(int(self.center[n]), width)
        r = self.radius_px
        rows = np.arange(max(y - r, 0), min(y + r + 1, height))
        cols = np.arange(max(x - r, 0), min(x + r + 1, width))
        return Region((rows[:, None] * width + cols).reshape(-1), (height, width))

    def region_of_segments(self, rows: np.ndarray) -> Region:
        """Return the pixels of some candidates, segments of one image.

        Raises:
            TypeError: without maps, see `with_maps`.
            DataError: if a map is not the one the candidates were proposed with.
        """
        if self.map_of is None or self.segment is None or self.cost is None:
            raise TypeError("Candidates.region_of_segments: expected segments with maps, got none; use with_maps()")
        name = self.sample_ids[self.sample[rows[0]]]
        region = Region.of_segments(self.map_of(name), self.segment[rows])
        _require(
            len(region) == int(self.cost[rows].sum()),
            f"segments of {name!r}",
            f"{int(self.cost[rows].sum())} pixels, as when they were proposed",
            f"{len(region)}: another map",
        )
        return region

    def save(self, path: Path) -> None:
        """Write an ``.npz`` atomically."""
        columns: dict[str, np.ndarray] = {
            "sample_ids": np.asarray(self.sample_ids, dtype=np.str_),
            "sample": self.sample,
            "utility": self.utility,
            "radius_px": np.asarray(self.radius_px),
        }
        if self.center is not None and self.size_hw is not None:
            columns |= {"center": self.center, "size_hw": self.size_hw}
        if self.segment is not None and self.cost is not None:
            columns |= {"segment": self.segment, "cost": self.cost}
        columns |= {f"column_{k}": v for k, v in self.columns.items()}
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **columns, **{f"info_{k}": v for k, v in self.info.items()})  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> "Candidates":
        """Read what `save` wrote.

        Raises:
            ResumeError: if it is no such file.
            DataError: if its columns don't fit each other.
        """
        z = load_arrays(path, _CANDIDATES, rest=Column("biufU"))
        found = cls(
            tuple(z["sample_ids"].tolist()),
            z["sample"],
            z["utility"],
            z.get("center"),
            int(z["radius_px"]),
            z.get("size_hw"),
            {k[5:]: v for k, v in z.items() if k.startswith("info_")},
            z.get("segment"),
            z.get("cost"),
            {k[7:]: v for k, v in z.items() if k.startswith("column_")},
        )
        num = len(found.sample_ids)
        ok = (
            len(set(found.sample_ids)) == num
            and bool(((found.sample >= 0) & (found.sample < num)).all())
            and (found.center is None) == (found.size_hw is None)
            and (found.segment is None) == (found.cost is None)
            and (found.segment is None or (found.center is not None and bool((found.segment >= 0).all())))
            and all(v.ndim and len(v) == num for v in found.info.values())
        )
        if ok and found.center is not None and found.size_hw is not None:
            area = found.size_hw.astype(np.int64).prod(1)[found.sample]
            ok = bool(((found.center >= 0) & (found.center < area)).all())
        _require(ok, str(path), "candidates of the images that the file names", "columns that don't fit")
        return found


_CANDIDATES = {
    "sample_ids": Column("U", ("M",)),
    "sample": Column("i", ("N",)),
    "utility": Column("f", ("N",)),
    "radius_px": Column("i", ()),
    "center": Column("i", ("N",), required=False),
    "size_hw": Column("i", ("M", 2), required=False),
    "segment": Column("i", ("N",), required=False),
    "cost": Column("i", ("N",), required=False),
}
