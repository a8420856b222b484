"""Which segment each pixel of an image is in: superpixels, squares, or what another tool has drawn."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from al_lab.core.arrays import Column, load_arrays
from al_lab.core.errors import ConfigError, DataError, did_you_mean, explain
from al_lab.core.fields import anything, at_least, mapping_of, not_negative, one_of, optional, positive, text
from al_lab.core.files import atomic_path, sha256
from al_lab.data.formats.images import open_image

_VERSION = 2  # of what is kept
_MOST = 2**15  # segments of an image
_SUFFIXES = (".png", ".tif", ".tiff", ".npy")


@dataclass(frozen=True)
class SegmentSettings:
    """How images are cut into segments.

    Attributes:
        kind: ``slic``: superpixels (Achanta et al., PAMI 2012), as scikit-image makes them; ``grid``: rectangles in
            about equal numbers of rows and columns, a control that looks at nothing; ``folder``: label maps that
            another tool wrote (a SAM-like one), of the images' relative names.
        count: about so many segments an image; 40 is ReDAL's and D2ADA's (released code), for 2048 x 1024 pixels.
        compactness: of slic: weight of distance against color; 10 is theirs.
        min_size_factor: of slic: a segment is one piece, and pieces smaller than this share of the mean size are joined
            to a neighbor; 0, theirs, leaves clusters as they are: at most ``count`` segments, islands and all.
        folder: of ``kind=folder``: where the maps are, as gray PNG or TIFF of 8, 16 or 32 bits, or .npy.
            Every value is a segment, the background's too.
        cache_dir: keeps maps that are computed; None: they are computed each time.

    Raises:
        ConfigError: naming the key.
    """

    kind: Literal["slic", "grid", "folder"] = "slic"
    count: int = 40
    compactness: float = 10.0
    min_size_factor: float = 0.0
    folder: str | None = None
    cache_dir: str | None = None

    def __post_init__(self) -> None:
        one_of("slic", "grid", "folder")(self.kind, "dataset.segments.kind")
        at_least(1)(self.count, "dataset.segments.count", do="40 is the papers'")
        positive(self.compactness, "dataset.segments.compactness", do="10 is the papers'")
        not_negative(self.min_size_factor, "dataset.segments.min_size_factor", do="0 is the papers'")
        for key in ("folder", "cache_dir"):
            optional(text)(getattr(self, key), f"dataset.segments.{key}", "a folder, or null")
        if self.kind == "folder" and self.folder is None:
            raise ConfigError(
                explain(
                    expected="the folder of the maps",
                    got="null",
                    where="dataset.segments.folder",
                    do="give it, or let dataset.segments.kind=slic make them",
                )
            )

    @classmethod
    def of(cls, values: Mapping[str, Any] | None) -> SegmentSettings:
        """Build from a mapping; a key that is none is refused."""
        known = [f.name for f in fields(cls)]
        given = mapping_of(anything)(values or {}, "dataset.segments", do=f"keys are {', '.join(known)}")
        for key in given:
            if key not in known:
                do = did_you_mean(key, known)
                expected = "a key of dataset.segments"
                raise ConfigError(explain(expected=expected, got=repr(key), where="dataset.segments", do=do))
        return cls(**given)

    def check(self) -> None:
        """Refuse what would fail at the first image.

        Raises:
            DataError: if the folder of the maps is not there.
            ConfigError: if scikit-image is not installed.
        """
        if self.kind == "slic":
            _slic_of_skimage()
        if self.kind == "folder" and not Path(str(self.folder)).expanduser().is_dir():
            raise DataError(
                explain(
                    expected="a folder of segment maps",
                    got="no such folder",
                    where=f"dataset.segments.folder={self.folder}",
                    do="correct the path",
                )
            )

    def digest(self) -> str:
        """Return what tells apart maps that are made in different ways, with the version of who makes them."""
        ours = {k: v for k, v in asdict(self).items() if k not in ("folder", "cache_dir")}
        maker = _skimage_version() if self.kind == "slic" else ""
        return hashlib.sha256(json.dumps([_VERSION, maker, ours], sort_keys=True).encode()).hexdigest()[:16]

    def map_of(self, sample_id: str, image_path: Path, image_HW3: Any) -> np.ndarray:
        """Return the segment of each pixel, (H, W) int16, 0..R-1; every number occurs.

        Args:
            sample_id: the image's.
            image_path: its file.
            image_HW3: a function without arguments that returns the image, uint8 RGB; called if it is looked at.

        Raises:
            DataError: naming the file of a map that makes no sense.
        """
        if self.kind == "folder":
            return _numbered(self._read(sample_id), sample_id)
        if self.cache_dir is None:
            return self._made(image_HW3())
        path = Path(self.cache_dir).expanduser() / self.digest() / f"{sha256(image_path)[:32]}.npz"
        if path.is_file():
            kept: np.ndarray = load_arrays(path, {"segments": Column("i", ("H", "W"))}, compressed=True)["segments"]
            return kept.astype(np.int16, copy=False)
        made = self._made(image_HW3())
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, segments=made)
        return made

    def _made(self, image_HW3: np.ndarray) -> np.ndarray:
        if self.kind == "grid":
            return grid(image_HW3.shape[:2], self.count)
        return slic(image_HW3, self.count, self.compactness, self.min_size_factor)

    def _read(self, sample_id: str) -> np.ndarray:
        base = Path(str(self.folder)).expanduser() / sample_id
        found = next((p for s in _SUFFIXES if (p := base.with_name(base.name + s)).is_file()), None)
        if found is None:
            raise DataError(
                explain(
                    expected=f"a segment map ({', '.join(_SUFFIXES)})",
                    got="none",
                    where=str(base),
                    do="write one for every image of the pool, under the sample's id",
                )
            )
        map_HW = _read_map(found)
        if map_HW.ndim != 2 or map_HW.dtype.kind not in "iub":  # noqa: PLR2004 - height and width
            raise _wrong(found, f"an array of {map_HW.dtype} of shape {map_HW.shape}")
        return map_HW


def _read_map(path: Path) -> np.ndarray:
    if path.suffix != ".npy":
        with open_image(path) as image:
            return np.asarray(image)
    try:
        array: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, SyntaxError) as error:
        raise _wrong(path, f"what can't be read ({error})") from error
    return array


def _wrong(path: Path, got: str) -> DataError:
    do = "write a gray PNG or an array of whole numbers, a number for each segment"
    return DataError(explain(expected="a map of whole numbers, (H, W)", got=got, where=str(path), do=do))


def _numbered(map_HW: np.ndarray, where: str) -> np.ndarray:
    """Return the map with its values counted through, in their order."""
    values, inverse = np.unique(map_HW, return_inverse=True)
    if len(values) > _MOST:
        expected = f"at most {_MOST} segments"
        do = "join small ones"
        raise DataError(explain(expected=expected, got=str(len(values)), where=f"segment map of {where!r}", do=do))
    return inverse.reshape(map_HW.shape).astype(np.int16)


def grid(size_hw: tuple[int, ...], count: int) -> np.ndarray:
    """Return about ``count`` rectangles, as square as they can be, (H, W) int16."""
    height, width = size_hw
    rows = min(height, max(1, round((count * height / width) ** 0.5)))
    columns = min(width, max(1, round(count / rows)))
    row_H, column_W = np.arange(height) * rows // height, np.arange(width) * columns // width
    return (row_H[:, None] * columns + column_W).astype(np.int16)


def slic(image_HW3: np.ndarray, count: int = 40, compactness: float = 10.0, min_size_factor: float = 0.0) -> np.ndarray:
    """Return superpixels, (H, W) int16, 0..R-1: k-means of color (CIELAB) and place.

    Achanta et al., "SLIC Superpixels Compared to State-of-the-Art Superpixel Methods", PAMI 2012, by scikit-image,
    whose version counts: another one may cut differently. R is near ``count``, seldom equal to it. DEVIATION: D2ADA's
    released code cuts with the package fast_slic, which a factor of 0 makes leave clusters as they are, as here.
    """
    found = _slic_of_skimage()(
        image_HW3,
        n_segments=count,
        compactness=compactness,
        enforce_connectivity=min_size_factor > 0,
        min_size_factor=min_size_factor,
        start_label=0,
        channel_axis=-1,
    )
    return _numbered(found, "slic")


def _slic_of_skimage() -> Any:
    try:
        from skimage.segmentation import slic as found  # noqa: PLC0415 - half a second, for who needs it
    except ImportError as error:
        raise ConfigError(
            explain(
                expected="scikit-image, which makes superpixels",
                got=str(error),
                where="dataset.segments.kind=slic",
                do="pip install scikit-image, or use dataset.segments.kind=grid or folder",
            )
        ) from error
    return found


def _skimage_version() -> str:
    from importlib.metadata import version  # noqa: PLC0415

    return version("scikit-image")


def map_hash(segments_HW: np.ndarray) -> str:
    """Return a hash of a map (16 hex digits), the same on every machine."""
    plain = np.ascontiguousarray(segments_HW, "<i2")
    return hashlib.sha256(f"{plain.shape}".encode() + plain.tobytes()).hexdigest()[:16]
