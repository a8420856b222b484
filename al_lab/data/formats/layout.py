"""What lies in a folder of photographs: which annotation files, of which format, of which image, of which split."""

from __future__ import annotations

import json
import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Literal

from al_lab.core.documents import Source
from al_lab.core.errors import DataError, explain
from al_lab.data.formats.images import HEIC_SUFFIXES, IMAGE_SUFFIXES, OTHER_PHOTOGRAPHS
from al_lab.data.formats.splits import SPLIT_WORDS, split_of

log = logging.getLogger(__name__)

Format = Literal["voc", "coco", "yolo", "cvat", "label_studio", "labelme"]
FORMATS: tuple[Format, ...] = ("voc", "coco", "yolo", "cvat", "label_studio", "labelme")
_IMAGE_FOLDERS = ("JPEGImages", "images", "Images", "img", "imgs", "photos", "data/images", "obj_train_data")
# Pictures in these folders are label maps, not photographs.
_MAP_FOLDERS = re.compile(r"^(segmentation(class|object).*|.*masks?.*|annots?|.*label_?maps?.*|gt.*|labels?)$", re.I)
_HEAD_BYTES = 4096
_NO_LABELS = "an interface's description"
#: Files that tools lay beside labels: no labels themselves.
LISTS = ("classes.txt", "labels.txt", "obj.names", "class_names.txt", "notes.json")
# A JSON document this large is read when it is needed, not to see what it is.
_PEEK_BYTES = 64 * 2**20


@dataclass
class AnnotationFiles:
    """Annotation files below a folder, by what they are.

    Attributes:
        by_format: the files of each format.
        named: files of a known kind that hold no labels, each with what it is ("predictions", …).
        unknown: XML, JSON and text files that nobody here can read.
    """

    by_format: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
    named: dict[Path, str] = field(default_factory=dict)
    unknown: list[Path] = field(default_factory=list)


def walk_files(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder, in order; links to folders are followed, hidden files are not seen.

    A folder is entered once, by whatever name it is reached first, so loops of links end.
    """
    seen: set[tuple[int, int]] = set()
    for parent, dirs, files in os.walk(folder, followlinks=True):
        state = os.stat(parent)
        if (state.st_dev, state.st_ino) in seen:
            dirs.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        dirs[:] = sorted(d for d in dirs if not d.startswith((".", "__MACOSX")))
        yield from (Path(parent, file) for file in sorted(files) if not file.startswith("."))


def find_pictures(folder: Path) -> list[Path]:
    """Return the image files below a folder; photographs in a format that is not read are left out with a warning."""
    found, other = [], []
    for path in walk_files(folder):
        suffix = path.suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            found.append(path)
        elif suffix in OTHER_PHOTOGRAPHS:
            other.append(path)
    if other:
        _warn_of_others(folder, len(other), other[0].name)
    return found


@cache
def _warn_of_others(folder: Path, count: int, first: str) -> None:
    log.warning(
        "%s: %d photographs are in a format that is not read (first %s) and are left out; %s",
        folder,
        count,
        first,
        _remedy_of_others(first),
    )


def _remedy_of_others(name: str) -> str:
    is_heic = name.lower().endswith(HEIC_SUFFIXES)
    return "pip install pi-heif reads them, or convert them to .jpg" if is_heic else "convert them to .jpg"


def index_images(folder: Path) -> dict[str, Path]:
    """Find all images below a folder: id (relative path without suffix) to file; hidden files are skipped.

    Raises:
        DataError: if two files would get one id.
    """
    return by_id(folder, find_pictures(folder))


def find_images(
    root: Path, image_dir: str | None = None, usual: Sequence[str] = _IMAGE_FOLDERS
) -> tuple[Path, dict[str, Path]]:
    """Find the photographs of a folder, and the folder below which their ids are their paths.

    Args:
        root: the folder.
        image_dir: below root, where somebody said so.
        usual: where else they may lie, the first one that holds any; after these, root itself.

    Raises:
        DataError: if there are none, or two would get one id.
    """
    bases = [root / image_dir] if image_dir else [*(root / name for name in usual), root]
    for base in bases:
        if not base.is_dir():
            continue
        paths = find_pictures(base)
        plain = [p for p in paths if not any(_MAP_FOLDERS.match(part) for part in p.relative_to(base).parts[:-1])]
        if base != root and plain and _lies_elsewhere(root, base):
            continue  # images/ holds a part only: train/images, valid/images lie beside it
        if plain:
            return base, by_id(base, plain)
    others = [p for p in walk_files(root) if p.suffix.lower() in OTHER_PHOTOGRAPHS] if root.is_dir() else []
    got = f"{len(others)} in a format that is not read, first {others[0].name}" if others else "none"
    raise DataError(
        explain(
            expected=f"images ({', '.join(IMAGE_SUFFIXES[:4])}, …) in {root}, or in a folder of it",
            got=got if root.is_dir() else "no such folder",
            where=f"dataset.root={root}",
            do=_remedy_of_others(others[0].name)
            if others
            else "set dataset.root to the folder that holds your photographs",
        )
    )


def _lies_elsewhere(root: Path, base: Path) -> bool:
    """Say whether split folders with images of their own lie beside an image folder."""
    return any(
        entry.is_dir() and entry.name.lower() in SPLIT_WORDS and not base.is_relative_to(entry)
        and any(p.suffix.lower() in IMAGE_SUFFIXES for p in walk_files(entry))
        for entry in root.iterdir()
    )  # fmt: skip


def by_id(base: Path, paths: Sequence[Path]) -> dict[str, Path]:
    """Name images by their path below ``base``, without suffix.

    Raises:
        DataError: if two would get one id.
    """
    found: dict[str, Path] = {}
    for path in paths:
        sample_id = path.relative_to(base).with_suffix("").as_posix()
        if sample_id in found:
            raise DataError(
                explain(
                    expected="one image for each id",
                    got=f"{found[sample_id].name} and {path.name}, both id {sample_id!r}",
                    where=str(path.parent),
                    do="rename or remove one of the two files",
                )
            )
        found[sample_id] = path
    return found


def find_annotations(root: Path, images: Mapping[str, Path]) -> AnnotationFiles:
    """Look at every XML, JSON and text file below a folder and say what it is."""
    found = AnnotationFiles()
    stems = {path.stem for path in images.values()}
    for path in walk_files(root):
        suffix = path.suffix.lower()
        if path.name.lower() in LISTS or "ImageSets" in path.parts:
            continue
        if suffix == ".xml":
            kind = xml_format(path)
        elif suffix == ".json":
            kind = json_format(path)
        elif suffix == ".txt":
            kind = "yolo" if path.stem in stems and _is_yolo(path) else None
            if kind is None and path.stem not in stems:
                continue  # a list, a license, a readme
        else:
            continue
        if kind == _NO_LABELS:
            continue
        if kind in FORMATS:
            found.by_format[kind].append(path)
        elif kind:
            found.named[path] = kind
        else:
            found.unknown.append(path)
    return found


def _head(path: Path) -> str:
    if not path.is_file():
        return ""  # opening a pipe never ends
    try:
        with path.open("rb") as stream:
            return stream.read(_HEAD_BYTES).decode("utf-8", "replace").lstrip("\ufeff")
    except OSError:
        return ""


def xml_format(path: Path) -> str | None:
    """Return which format an XML file is of, by its root; None if of none that is known here."""
    head = re.sub(r"<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^>\[]*>", "", _head(path), flags=re.S).lstrip()
    tag = re.match(r"<([A-Za-z_][\w.-]*)", head)
    if not tag:
        return "voc"  # a file that is cut, or no XML at all, is named when it is read as what its folder holds
    return {"annotations": "cvat", "annotation": "voc", "View": _NO_LABELS}.get(tag[1])


def json_format(path: Path) -> str | None:
    """Return which format a JSON file is of, or what else it is in words; None if nobody knows."""
    if not path.is_file() or path.stat().st_size > _PEEK_BYTES:
        return "coco"  # only COCO's files are that large
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError):
        return None
    if isinstance(content, dict):
        if "shapes" in content and "imagePath" in content:
            return "labelme"
        if "images" in content and ("annotations" in content or "categories" in content):
            entries = content.get("annotations")
            if not isinstance(entries, list) or not entries:
                return "coco"  # what is no list is named by its reader
            has_boxes = any(isinstance(a, dict) and "bbox" in a for a in entries)
            return "coco" if has_boxes else "COCO annotations without boxes"
    if isinstance(content, list) and content and isinstance(content[0], dict):
        first = content[0]
        if isinstance(first.get("data"), dict):
            return "label_studio"
        if "image_id" in first and "bbox" in first:
            return "detections in COCO's results format (predictions, no labels)"
    return None


def _is_yolo(path: Path) -> bool:
    words = _head(path).split("\n", 1)[0].split()
    try:
        return not words or (len(words) >= 5 and all(float(w) > -10 for w in words))  # noqa: PLR2004
    except ValueError:
        return False


def match_by_path(files: Sequence[Path], images: Mapping[str, Path], base: Path) -> tuple[dict[str, Path], list[Path]]:
    """Find the image of each annotation file that belongs to one image.

    A file belongs to the image beside it of the same stem; else to the one whose path below the image folder ends as
    its own path does (``labels/train/a.txt`` and ``images/train/a.jpg``); else to the only one of that stem.

    Returns:
        id to file, and the files that belong to no image.
    """
    beside = {(path.parent, path.stem): i for i, path in images.items()}
    tails: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for sample_id, path in images.items():
        parts = (*path.relative_to(base).parts[:-1], path.stem)
        for n in range(len(parts)):
            tails[parts[n:]].append(sample_id)
    found: dict[str, Path] = {}
    strangers = []
    for file in files:
        of = beside.get((file.parent, file.stem))
        if of is None:
            parts = (*file.parent.parts, file.stem)
            # The longest tail that a path of an image has, too; it has to be of one image only.
            fits = next((tails[t] for n in range(len(parts)) if (t := parts[n:]) in tails), [])
            if len(fits) > 1:
                split = split_of(PurePosixPath(file.as_posix()))
                fits = [i for i in fits if split_of(PurePosixPath(images[i].as_posix())) == split]
            of = fits[0] if len(fits) == 1 else None
        if of is None or of in found:
            strangers.append(file)
        else:
            found[of] = file
    return found, strangers


class NameIndex:
    """Finds images by what an annotation file calls them: a path, a bare name, a name that a tool has changed."""

    # Label Studio puts eight hex digits and a dash before an upload's name; Django drops what it finds unsafe.
    _PREFIX = re.compile(r"^[0-9a-f]{8}-")
    _ROBOFLOW = re.compile(r"^(.*)_(jpe?g|png|bmp|webp|tiff?)\.rf\.[0-9a-f]+$", re.I)

    def __init__(self, images: Mapping[str, Path]) -> None:
        """Index images by each tail of their path, and by the name that survives an upload."""
        self._tails: dict[str, list[str]] = defaultdict(list)
        self._stems: dict[str, list[str]] = defaultdict(list)
        self._safe: dict[str, list[str]] = defaultdict(list)
        for sample_id, path in images.items():
            parts = path.parts
            for n in range(1, min(len(parts), 8) + 1):
                self._tails["/".join(parts[-n:])].append(sample_id)
                self._stems["/".join((*parts[-n:-1], path.stem))].append(sample_id)
            self._safe[uploaded_name(path.name)].append(sample_id)

    def find(self, name: str, near: Path | None = None) -> str | None:
        """Return the id of the image that a file calls ``name``; None if there is none, or more than one.

        Args:
            name: as the file says.
            near: the folder of the annotation file: of several images of one name that one is meant.
        """
        plain = PurePosixPath(name.replace("\\", "/"))
        parts = [p for p in plain.parts if p not in ("/", ".", "..")]
        if near is not None:
            exact = self._tails.get("/".join([*near.parts[-(8 - len(parts)) :], *parts])[-4096:], [])
            if len(exact) == 1:
                return exact[0]
        for n in range(len(parts)):
            fits = self._tails.get("/".join(parts[n:]), [])
            if fits:
                return fits[0] if len(fits) == 1 else None
        for bare in (plain.name, self._PREFIX.sub("", plain.name)):
            fits = self._safe.get(uploaded_name(bare), [])
            if len(fits) == 1:
                return fits[0]
        return None

    def find_stem(self, name: str) -> str | None:
        """Return the id of the only image whose path ends as ``name`` does, which has no suffix."""
        parts = PurePosixPath(name.replace("\\", "/")).parts
        for n in range(len(parts)):
            fits = self._stems.get("/".join(parts[n:]), [])
            if fits:
                return fits[0] if len(fits) == 1 else None
        return None


def uploaded_name(name: str) -> str:
    """Return a file name as web frameworks store it: spaces to underscores, only letters, digits, dash, dot kept."""
    return re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_")).lower()


def choose_format(matched: Mapping[str, int], wanted: str | None, files: AnnotationFiles, root: Path) -> str | None:
    """Return the format to read: the wanted one, else the one that speaks of most images.

    Args:
        matched: format to number of images its files speak of.
        wanted: dataset.format.
        files: what was found.
        root: of the dataset.

    Raises:
        DataError: if there are annotation files and none speaks of an image, or the wanted format is not there.
    """
    if wanted is not None:
        if not matched.get(wanted):
            there = ", ".join(f"{k} ({n} images)" for k, n in matched.items()) or "no annotation file"
            raise DataError(
                explain(
                    expected=f"{wanted} annotations",
                    got=there,
                    where=f"dataset.format={wanted}, {root}",
                    do="choose a format that is there, or dataset.format=null",
                )
            )
        return wanted
    best = max(matched.items(), key=lambda kv: (kv[1], -FORMATS.index(kv[0])), default=None)
    if best is not None and best[1]:
        return best[0]
    unread = [*(p for paths in files.by_format.values() for p in paths), *files.named, *files.unknown]
    if unread:
        kinds = Counter(p.suffix.lower() for p in unread)
        raise DataError(
            explain(
                expected="annotation files that speak of the images",
                got=f"{', '.join(f'{n} {s}' for s, n in kinds.most_common())} that speak of none of them, "
                f"first {unread[0]}" + (f" ({files.named[unread[0]]})" if unread[0] in files.named else ""),
                where=str(root),
                do="give annotation files the names of their images, or move what is no annotation out of the folder",
            )
        )
    return None


def read_list(path: Path) -> list[str]:
    """Read a list of images or classes, one a line; comments and empty lines are left out."""
    return [line for _, line in Source(path, "a list, one name a line").read_lines()]
