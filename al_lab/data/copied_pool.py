"""A test bed: a pool most of whose photographs are near copies of a few, as frames of a film are."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from PIL import Image, ImageEnhance, features
from PIL import __version__ as pillow_version

from al_lab.core.errors import ConfigError, DataError, explain
from al_lab.core.fields import at_least, below_one, share
from al_lab.core.rng import Rng
from al_lab.core.types import Annotation
from al_lab.data.convert import Labeled, convert
from al_lab.data.formats.images import load_rgb

_BRIGHTNESS = (0.75, 1.25)
_QUALITY = (50, 95)
_LEAST_SEEN = 0.25  # a box of which less remains is VOC's "difficult": neither trained nor counted


@dataclass(frozen=True)
class Copy:
    """How one near copy is made.

    Attributes:
        source: id of the photograph.
        name: id of the copy.
        window_xyxy: what is kept of the upright photograph, whole pixels.
        brightness: factor of every pixel.
        quality: of the JPEG, 1..95.
    """

    source: str
    name: str
    window_xyxy: tuple[int, int, int, int]
    brightness: float
    quality: int


@dataclass(frozen=True)
class Recipe:
    """What the new pool is to be.

    Attributes:
        near_copies: share of the pool that are near copies; the pool keeps its size.
        photographs: how many are copied, as evenly as numbers allow.
        most_cut: of a side, both ends together, that a copy may lose: neighbouring frames, not other photographs.
        seed: of the draw.
    """

    near_copies: float = 0.7
    photographs: int = 8
    most_cut: float = 0.08
    seed: int = 0

    def __post_init__(self) -> None:
        share(self.near_copies, "--share", "e.g. 0.7")
        at_least(1)(self.photographs, "--photographs", "e.g. 8")
        below_one(self.most_cut, "--cut", "e.g. 0.08")


class CopiedPool:
    """A labeled dataset whose pool is partly replaced by near copies; val and test stay what they are.

    Args:
        dataset: labeled boxes.
        recipe: of the pool.
        folder: where the copies are written.

    Raises:
        ConfigError: for label maps, and shares that leave no photograph.
        DataError: if too few photographs of the pool show an object.
    """

    task: Literal["detection", "segmentation"] = "detection"

    def __init__(self, dataset: Labeled, recipe: Recipe, folder: Path) -> None:
        if dataset.task != "detection":
            raise ConfigError(
                explain(expected="boxes", got="label maps", where="near-copies", do="give a detection dataset=…")
            )
        self.classes = dataset.classes
        self._dataset, self._folder = dataset, folder
        labeled = [i for i in dataset.splits()["pool"] if dataset.has_truth(i)]
        self.copies = plan(labeled, dataset, recipe)
        self._copy_of = {copy.name: copy for copy in self.copies}
        sources = {copy.source for copy in self.copies}
        rest = [i for i in labeled if i not in sources]
        kept = len(labeled) - len(self.copies) - len(sources)
        order = Rng(recipe.seed, "near-copies", "kept").generator().permutation(len(rest))[:kept]
        pool = sorted([*sources, *self._copy_of, *(rest[n] for n in order)])
        self._splits = {**dataset.splits(), "pool": tuple(pool)}
        self._windows = {copy.name: _window(dataset, copy) for copy in self.copies}

    def splits(self) -> Mapping[str, tuple[str, ...]]:
        """Return the ids of each split."""
        return self._splits

    def has_truth(self, sample_id: str) -> bool:
        """Say whether an image is labeled."""
        return sample_id in self._copy_of or self._dataset.has_truth(sample_id)

    def truth(self, sample_id: str) -> Annotation:
        """Return the boxes; those of a copy follow its window."""
        if sample_id in self._windows:
            return self._windows[sample_id]
        found: Annotation = self._dataset.truth(sample_id)
        return found

    def image_path(self, sample_id: str) -> Path:
        """Return the image's file; a copy is written when it is asked for."""
        if sample_id not in self._copy_of:
            return self._dataset.image_path(sample_id)
        path = self._folder / f"{sample_id}.jpg"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            _draw(load_rgb(self._dataset.image_path(self._copy_of[sample_id].source)), self._copy_of[sample_id], path)
        return path

    def size_hw(self, sample_id: str) -> tuple[int, int]:
        """Return (height, width)."""
        if sample_id not in self._copy_of:
            return self._dataset.size_hw(sample_id)
        x1, y1, x2, y2 = self._copy_of[sample_id].window_xyxy
        return y2 - y1, x2 - x1

    def digest(self) -> str:
        """Return the sha256 of names, windows, brightness, quality and boxes: the same on every machine."""
        sha = hashlib.sha256()
        for sample_id in self._splits["pool"]:
            copy = self._copy_of.get(sample_id)
            line = [sample_id, asdict(copy) if copy else None, self.truth(sample_id).to_json()]
            sha.update(json.dumps(line, sort_keys=True).encode())
        return sha.hexdigest()


def plan(labeled: Sequence[str], dataset: Labeled, recipe: Recipe) -> list[Copy]:
    """Draw which photographs are copied, and how.

    Args:
        labeled: ids of the pool.
        dataset: of them.
        recipe: of the pool.
    """
    photographs = recipe.photographs
    count = round(recipe.near_copies * len(labeled))
    if count + photographs > len(labeled) or count < photographs:
        raise ConfigError(
            explain(
                expected=f"each photograph copied, and room for all among {len(labeled)} images of the pool",
                got=f"{count} copies of {photographs} photographs",
                where="--share, --photographs",
                do="change one of the two",
            )
        )
    rng = Rng(recipe.seed, "near-copies")
    order = rng.generator("photographs").permutation(len(labeled))
    shows_objects = (labeled[n] for n in order if _counts(dataset.truth(labeled[n])))
    sources = sorted(i for i, _ in zip(shows_objects, range(photographs), strict=False))
    if len(sources) < photographs:
        raise DataError(
            explain(
                expected=f"{photographs} labeled photographs of the pool with an object",
                got=str(len(sources)),
                where="--photographs",
                do="ask for fewer",
            )
        )
    found = []
    for n in range(count):
        source = sources[n % photographs]
        draw = rng.generator(source, n)
        (height, width), number = dataset.size_hw(source), n // photographs + 1
        sides = [round(side * (1 - draw.uniform(0, recipe.most_cut))) for side in (width, height)]
        x1, y1 = (int(draw.integers(0, whole - part + 1)) for whole, part in zip((width, height), sides, strict=True))
        window = (x1, y1, x1 + sides[0], y1 + sides[1])
        path = PurePosixPath(source)
        name = str(path.with_name(f"{path.name}_copy{number:04d}"))
        found.append(
            Copy(source, name, window, round(draw.uniform(*_BRIGHTNESS), 4), int(draw.integers(*_QUALITY) + 1))
        )
    return found


def _counts(truth: Annotation) -> bool:
    return bool((~truth.difficult & ~truth.crowd).any())


def _window(dataset: Labeled, copy: Copy) -> Annotation:
    """Return the boxes that a window shows, in its pixels."""
    truth = dataset.truth(copy.source)
    x1, y1, x2, y2 = copy.window_xyxy
    moved = truth.boxes_xyxy.astype(np.float64) - np.array([x1, y1, x1, y1])
    seen = np.clip(moved, 0, np.array([x2 - x1, y2 - y1] * 2))
    whole, part = ((b[:, 2:] - b[:, :2]).prod(1) for b in (moved, seen))
    keep = (seen[:, 2:] > seen[:, :2]).all(1)
    difficult = truth.difficult | (part < _LEAST_SEEN * whole)
    return Annotation.make(seen[keep], truth.labels[keep], difficult[keep], truth.crowd[keep])


def _draw(rgb: np.ndarray, copy: Copy, path: Path) -> None:
    picture = Image.fromarray(rgb).crop(copy.window_xyxy)
    ImageEnhance.Brightness(picture).enhance(copy.brightness).save(path, "JPEG", quality=copy.quality)


def write_copied_pool(
    dataset: Labeled,
    out: Path,
    recipe: Recipe,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Write the test bed as a folder that ``dataset=folder`` reads; see `CopiedPool`.

    Args:
        dataset: labeled boxes.
        out: a folder that doesn't exist yet, or is empty.
        recipe: of the pool.
        progress: called with (done, total) after each image.

    Returns:
        What was written, digests included, as lines for a person.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(explain(expected="a new folder", got="one that holds files", where=str(out), do="name another"))
    begun = out.with_name(f".{out.name}.begun")  # a kill leaves nothing that looks like a whole pool
    shutil.rmtree(begun, ignore_errors=True)
    drawn = begun / ".copies"
    bed = CopiedPool(dataset, recipe, drawn)
    (begun / "pool").mkdir(parents=True)
    written, notes = convert(bed, "voc", begun / "pool", "copy", progress)
    if out.is_dir():
        out.rmdir()
    (begun / "pool").rename(out)
    shutil.rmtree(begun)
    counts = ", ".join(f"{split} {count}" for split, count in written.items())
    sources = sorted({copy.source for copy in bed.copies})
    codec = features.version_feature("libjpeg_turbo") or features.version_codec("jpg")
    return [
        f"{out}: {counts}; of train {len(bed.copies)} are near copies of {len(sources)} photographs: "
        f"{', '.join(sources)}",
        *(f"lost: {note}" for note in notes),
        f"plan sha256 {bed.digest()} (names, windows, boxes: the same on every machine)",
        f"files sha256 {files_digest(out)} (Pillow {pillow_version}, libjpeg {codec}; "
        "another JPEG codec may write other bytes)",
    ]


def files_digest(folder: Path) -> str:
    """Return the sha256 of every file below a folder, names included."""
    sha = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        sha.update(f"{path.relative_to(folder).as_posix()}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return sha.hexdigest()
