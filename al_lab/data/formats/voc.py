"""The file formats of PASCAL VOC: annotations in XML, lists of names; what comes from a file is never trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse as parse_xml

from al_lab.core.errors import DataError, did_you_mean, explain
from al_lab.core.types import Annotation
from al_lab.data.formats.boxes import Outside, clean_boxes
from al_lab.data.formats.images import IMAGE_SUFFIXES


def read_xml(path: Path) -> Element:
    """Parse an annotation file; entities and other XML bombs are refused.

    Raises:
        DataError: if the file is missing, is no XML, or declares entities.
    """
    try:
        root = parse_xml(path, forbid_dtd=True).getroot()
    except FileNotFoundError:
        got, do = "no such file", "restore the file"
    except DefusedXmlException as error:
        got, do = f"XML with a DTD or entities, refused as a possible XML bomb ({error})", "export the annotation again"
    except (ParseError, UnicodeError, ValueError) as error:
        got, do = f"a file that can't be parsed ({error})", "export the annotation again"
    else:
        if root is not None and root.tag == "annotation":
            return root
        got, do = (
            f"an XML file whose root is <{getattr(root, 'tag', None)}>",
            "export the annotation in PASCAL VOC format",
        )
    raise DataError(explain(expected="a PASCAL VOC <annotation>", got=got, where=str(path), do=do))


def parse_voc(
    path: Path,
    classes: Sequence[str],
    size_hw: tuple[int, int],
    one_based: bool = True,
    outside: Outside = "error",
) -> tuple[Annotation, tuple[str, ...]]:
    """Read one VOC annotation.

    VOC counts pixels from 1. All four coordinates lose 1, and the result is read as continuous (width = x2 - x1), the
    convention of SSD and of every paper built on it; a box over the whole image becomes [0, 0, W-1, H-1].

    Args:
        path: the XML file.
        classes: names; a name's position is its label.
        size_hw: of the upright image (the file's own <size> is not trusted).
        one_based: subtract 1. False for tools that write 0-based boxes.
        outside: what to do with boxes that leave the image by more than a pixel.

    Returns:
        The annotation, and a sentence for each thing that was worked around.

    Raises:
        DataError: with file and object for everything that makes no sense.
    """
    root = read_xml(path)
    index = {name: n for n, name in enumerate(classes)}
    labels, boxes, difficult = [], [], []
    for number, item in enumerate(root.findall("object"), 1):
        where = f"{path}: object {number}"
        name = (item.findtext("name") or "").strip()
        if name not in index:
            raise DataError(
                explain(
                    expected=f"one of {len(classes)} known classes",
                    got=repr(name),
                    where=where,
                    do=f"{did_you_mean(name, classes)} Correct the file, or add the class to classes.txt",
                )
            )
        labels.append(index[name])
        boxes.append([_number(item, f"bndbox/{key}", where) for key in ("xmin", "ymin", "xmax", "ymax")])
        difficult.append((item.findtext("difficult") or "").strip().lower() in ("1", "true", "yes"))
    raw = np.array(boxes, np.float64).reshape(-1, 4) - (1.0 if one_based else 0.0)
    kept, rows, notes = clean_boxes(raw, size_hw, str(path), outside)
    return Annotation.make(kept, np.array(labels, np.int64)[rows], np.array(difficult, bool)[rows]), notes


def _number(item: Element, key: str, where: str) -> float:
    text = item.findtext(key)
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(
            explain(expected=f"a number in <{key}>", got=repr(text), where=where, do="correct the coordinate")
        )
    return value


def read_split(path: Path) -> list[str]:
    """Read an ImageSets list: one name a line; a class list's trailing -1, 0 or 1 is dropped.

    Raises:
        DataError: if the list is missing, or a name would leave the root.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(
            explain(expected="a split list", got="no such file", where=str(path), do="create it, one image name a line")
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(
            explain(expected="UTF-8 text", got=str(error), where=str(path), do="save the list as UTF-8")
        ) from error
    names = []
    for line in lines:
        name, _, flag = line.strip().rpartition(" ")
        name = name.strip() if flag in ("-1", "0", "1") and name.strip() else line.strip()
        if name:
            stem = name[: -len(PurePosixPath(name).suffix)] if name.lower().endswith(IMAGE_SUFFIXES) else name
            names.append(safe_name(stem, str(path)))
    return names


def safe_name(name: str, where: str) -> str:
    """Return a relative file name that was read from a file, if it stays below its folder.

    Raises:
        DataError: if it is absolute or climbs out.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or "\0" in name:
        raise DataError(
            explain(
                expected="a file name below the data set's root",
                got=repr(name),
                where=where,
                do="names that leave the root are refused: correct the list",
            )
        )
    return path.as_posix()
