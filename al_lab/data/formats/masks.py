"""Label maps as people have them: where they lie beside photographs, and what their pixels mean."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from al_lab.core.documents import Source
from al_lab.core.errors import DataError, explain
from al_lab.core.fields import between, class_name, shown, written
from al_lab.data.formats.images import IMAGE_SUFFIXES, open_image
from al_lab.data.formats.layout import find_images, match_by_path, walk_files
from al_lab.data.formats.splits import split_of
from al_lab.data.formats.voc import read_class_list, read_split

VOID = 255
#: Names of classes.txt (and of color tables) that mean no class.
VOID_NAMES = frozenset({"void", "ignore", "ignored", "unlabeled", "unlabelled"})
_MAP_FOLDER = re.compile(
    r"^(segmentationclass(raw|aug)?|labels?|masks?|annotations?|annots?|label_?maps?|gt|ground_?truth)$", re.I
)
_MAP_SUFFIX = re.compile(r"[ _-](mask|masks|seg|segmentation|label|labels|labelids|gt|gt_labelids|l)$", re.I)
_COLOR = written(between(0, 255))
_FOREGROUND = (255, 1)  # of masks of one class
_LOOK_AT = 50  # label maps before it is believed that all are masks of one class

Color = tuple[int, int, int]


@dataclass(frozen=True)
class MapFiles:
    """Photographs and their label maps.

    Attributes:
        images: id to photograph.
        maps: id to label map; photographs without one are left out.
        strangers: label maps of no photograph.
        splits: split to ids, where lists or folders tell; empty where they don't.
        how: in words, for one line of the log.
    """

    images: dict[str, Path]
    maps: dict[str, Path]
    strangers: list[Path] = field(default_factory=list)
    splits: dict[str, list[str]] = field(default_factory=dict)
    how: str = ""


def find_maps(root: Path) -> MapFiles:
    """Find photographs and label maps below a folder.

    Maps lie in a folder of their own (``labels``, ``masks``, ``SegmentationClass``, …) or beside the photograph with a
    suffix (``a.jpg`` and ``a_mask.png``).

    Raises:
        DataError: if there are no photographs.
    """
    base, images = find_images(root)
    images = {i: p for i, p in images.items() if not _is_map(p, images, i)}
    candidates = [
        p for p in walk_files(root)
        if p.suffix.lower() in IMAGE_SUFFIXES and p not in set(images.values()) and not _is_other(p, root)
    ]  # fmt: skip
    by_name = {p.with_name(_MAP_SUFFIX.sub("", p.stem) + p.suffix): p for p in candidates}
    found, strangers = match_by_path(list(by_name), images, base)
    maps = {i: by_name[p] for i, p in found.items()}
    folders = sorted({p.parent.relative_to(root).as_posix() for p in maps.values()})
    how = f"label maps in {', '.join(folders[:3])}" + ("…" if len(folders) > 3 else "") if maps else "no label maps"  # noqa: PLR2004
    return MapFiles(images, maps, [by_name[p] for p in strangers], _splits(root, images), how)


def _is_map(path: Path, images: Mapping[str, Path], sample_id: str) -> bool:
    """Say whether an image is the label map of another one beside it."""
    bare = _MAP_SUFFIX.sub("", sample_id)
    return bare != sample_id and bare in images and images[bare].parent == path.parent


def _is_other(path: Path, root: Path) -> bool:
    """Say whether a picture lies in a folder of something else: instances, colors for the eye."""
    parts = [p.lower() for p in path.relative_to(root).parts[:-1]]
    return any("instance" in p or "object" in p or "color" in p or "visual" in p for p in parts) or bool(
        re.search(r"_(color|colour|instanceids|instance|vis)$", path.stem, re.I)
    )


def _splits(root: Path, images: Mapping[str, Path]) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    for path in sorted((root / "ImageSets" / "Segmentation").glob("*.txt")):
        if (split := split_of(PurePosixPath(path.stem.lower(), "x"))) is not None:
            names = set(read_split(path))
            splits[split] = [i for i in images if i in names]
    if splits:
        return splits
    for sample_id, path in images.items():
        if split := split_of(PurePosixPath(path.relative_to(root).as_posix())):
            splits.setdefault(split, []).append(sample_id)
    return splits


@dataclass(frozen=True)
class MapClasses:
    """What the pixels of a folder's maps mean.

    Attributes:
        names: raw value of a gray or palette map to class name; values that mean no class have a name of `VOID_NAMES`.
        colors: RGB color to raw value, for maps that hold colors; empty where there is no color table.
    """

    names: dict[int, str]
    colors: dict[Color, int] = field(default_factory=dict)


def read_map_classes(root: Path, classes: Sequence[str] | None) -> MapClasses | None:
    """Read what a folder says of its classes; None if it says nothing and ``classes`` neither.

    Looked for: ``classes.txt`` (a name a line, "id name", or "id name r g b"), ``labelmap.txt`` (CVAT: "name:r,g,b::"),
    ``class_dict.csv`` ("name,r,g,b"), ``_classes.csv`` (Roboflow: "value, name").

    Raises:
        DataError: naming file and line.
    """
    for path in sorted(root.rglob("labelmap.txt")):
        return _labelmap(path)
    for path in sorted(root.rglob("class_dict.csv")):
        return _class_dict(path)
    for path in sorted(root.rglob("_classes.csv")):
        return _roboflow(path)
    path = root / "classes.txt"
    if path.is_file():
        lines = Source(path, "class names, one a line").read_lines()
        if lines and all(re.fullmatch(r"\d+\s+.*\s\d+\s+\d+\s+\d+", line) for _, line in lines):
            return _numbered_colors(path)
        return MapClasses(read_class_list(path))
    return MapClasses(dict(enumerate(classes))) if classes else None


def _keep(table: MapClasses, raw: int, name: str, color: Color | None, where: str) -> None:
    """Add a class to a table in which every value, name and color may stand once."""
    name = class_name(name, where, error=DataError)
    is_void = name.lower() in VOID_NAMES  # several values may mean no class
    if raw in table.names or (name in table.names.values() and not is_void) or color in table.colors:
        got = f"{shown(name)} (value {raw}{f', color {color}' if color else ''}) again"
        raise DataError(
            explain(expected="every value, name and color once", got=got, where=where, do="correct the file")
        )
    table.names[raw] = name
    if color is not None:
        table.colors[color] = raw


def _numbered_colors(path: Path) -> MapClasses:
    table = MapClasses({})
    for number, line in Source(path, "lines 'id name r g b'").read_lines():
        raw, *name, r, g, b = line.split()
        where = f"{path}: line {number}"
        _keep(table, _COLOR(raw, where, error=DataError), " ".join(name), _color((r, g, b), where), where)
    return table


def _labelmap(path: Path) -> MapClasses:
    table = MapClasses({})
    for number, line in Source(path, "CVAT's labelmap.txt: 'name:r,g,b:parts:actions'").read_lines():
        name, _, rest = line.partition(":")
        rgb = rest.partition(":")[0].split(",")
        where = f"{path}: line {number}"
        _keep(table, len(table.names), name.strip(), _color(rgb, where), where)
    return table


def _class_dict(path: Path) -> MapClasses:
    table = MapClasses({})
    for number, row in _rows(path):
        if number == 1 and row[0].lower() in ("name", "class", "class_name"):
            continue
        where = f"{path}: line {number}"
        _keep(table, len(table.names), row[0], _color(row[1:4], where), where)
    return table


def _roboflow(path: Path) -> MapClasses:
    table = MapClasses({})
    for number, row in _rows(path):
        if number == 1:
            continue
        where = f"{path}: line {number}"
        if len(row) < 2:  # noqa: PLR2004
            raise DataError(explain(expected="'value, name'", got=shown(row), where=where, do="correct the file"))
        _keep(table, _COLOR(row[0], where, error=DataError), row[1], None, where)
    return table


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of each line of a CSV file; a cell never holds a line break here."""
    source = Source(path, "a CSV file")
    for number, line in source.read_lines():
        try:
            yield number, [cell.strip() for cell in next(csv.reader([line]))]
        except csv.Error as error:
            raise source.wrong("cells with commas between them", str(error), f"line {number}") from error


def _color(values: Sequence[str], where: str) -> Color:
    if len(values) != 3:  # noqa: PLR2004
        raise DataError(explain(expected="a color r,g,b", got=shown(list(values)), where=where, do="correct the file"))
    r, g, b = (_COLOR(v, where, "a color has three numbers 0..255", DataError) for v in values)
    return r, g, b


def read_ids(path: Path) -> np.ndarray:
    """Read a label image whose pixels are ids: gray, or a palette whose indices (not colors) count.

    Returns:
        (H, W) uint8.

    Raises:
        DataError: for a color picture, a lossy format, or ids above 255.
    """
    with open_image(path) as image:
        if image.format == "JPEG":
            raise _wrong_encoding(path, "a JPEG, which does not keep ids")
        if image.mode not in ("L", "P") and not image.mode.startswith("I"):
            raise _wrong_encoding(path, f"a {image.mode} picture (colors instead of ids)")
        values = np.array(image)
    if values.dtype != np.uint8 and (values.min() < 0 or values.max() > VOID):
        raise _wrong_encoding(path, f"ids {values.min()}..{values.max()} (instances instead of classes?)")
    return values.astype(np.uint8, copy=False)


def read_values(path: Path, colors: Mapping[Color, int]) -> np.ndarray:
    """Read a person's map: ids as `read_ids` does, black and white as 0 and 255, colors by a table.

    Returns:
        (H, W) uint8.

    Raises:
        DataError: see `read_ids`; for colors without a table, and colors that the table lacks.
    """
    with open_image(path) as image:
        if image.mode == "1":
            return np.asarray(image).astype(np.uint8) * np.uint8(VOID)
        is_color = image.mode in ("RGB", "RGBA", "LA") or bool(colors)
        if not is_color or image.format == "JPEG":
            return read_ids(path)
        return _by_color(np.asarray(image.convert("RGB")), colors, path)


def _by_color(rgb_HW3: np.ndarray, colors: Mapping[Color, int], path: Path) -> np.ndarray:
    if (rgb_HW3 == rgb_HW3[..., :1]).all() and not colors:
        return rgb_HW3[..., 0].copy()  # gray, saved as color
    if not colors:
        got = "a color picture (colors instead of ids), and no labelmap.txt or class_dict.csv that explains its colors"
        raise _wrong_encoding(path, got)
    packed_HW = rgb_HW3.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    keys = np.array([(r << 16) + (g << 8) + b for r, g, b in colors], np.uint32)
    order = np.argsort(keys)
    place = np.minimum(np.searchsorted(keys[order], packed_HW), len(keys) - 1)
    known = keys[order][place] == packed_HW
    if not known.all():
        r, g, b = (int(v) for v in rgb_HW3[~known][0])
        got = f"the color {r},{g},{b}, which it lacks, in {int((~known).sum())} pixels (saved with smooth edges?)"
        raise DataError(
            explain(
                expected="colors of the table",
                got=got,
                where=str(path),
                do="add the color to the table, or export again as PNG",
            )
        )
    return np.array(list(colors.values()), np.uint8)[order][place]


def _wrong_encoding(path: Path, got: str) -> DataError:
    return DataError(
        explain(
            expected="a gray or palette image of class ids",
            got=got,
            where=str(path),
            do="use the original label file; tools that show or convert it often lose the ids",
        )
    )


def foreground_of(maps: Sequence[Path], colors: Mapping[Color, int], void: Collection[int] = ()) -> int | None:
    """Return the other value of label maps that hold 0 and one of 1 and 255; None if they hold more, or less.

    Looks at some of many.

    Args:
        maps: their files.
        colors: the table of those that hold colors.
        void: values that are no class, and don't count.
    """
    seen: set[int] = set()
    for path in maps[:_LOOK_AT]:
        seen |= set(np.unique(read_values(path, colors)).tolist()) - set(void)
        if not any(seen <= {0, other} for other in _FOREGROUND):
            return None
    return next((other for other in _FOREGROUND if seen == {0, other}), None)
