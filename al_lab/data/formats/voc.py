"""The file formats of PASCAL VOC: annotations in XML, lists of names; what comes from a file is never trusted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, ParseError, SubElement, indent, tostring

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from al_lab.core.documents import Source
from al_lab.core.errors import DataError
from al_lab.core.fields import between, class_name, coordinate, flag, path_below, shown, written
from al_lab.core.files import write_bytes, write_text
from al_lab.core.types import Annotation
from al_lab.data.formats.boxes import Outside
from al_lab.data.formats.images import IMAGE_SUFFIXES
from al_lab.data.formats.record import Record, losses

_LARGEST_XML = 2**26  # bytes; an object takes 300
_NUMBERED = re.compile(r"([0-9]{1,9})\s+(\S.*)")
_SIZE = written(between(0, 2**31 - 1))
_COORDINATE = written(coordinate)


def read_xml(path: Path, tag: str = "annotation", what: str = "PASCAL VOC") -> Element:
    """Parse an annotation file; entities and other XML bombs are refused.

    Args:
        path: the file.
        tag: of the root element.
        what: the format's name.

    Raises:
        DataError: if the file is missing, is no XML, has another root, or declares entities.
    """
    source = Source(path, f"a {what} <{tag}>", "export the annotation again")
    raw = source.read_bytes(_LARGEST_XML)
    try:
        root = fromstring(raw, forbid_dtd=True)
    except DefusedXmlException as error:
        got = f"XML with a DTD or entities, refused as a possible XML bomb ({error})"
        raise source.wrong(source.what, got) from error
    except (ParseError, ValueError, LookupError) as error:  # LookupError: an encoding that doesn't exist
        raise source.wrong(source.what, f"a file that can't be parsed ({error})") from error
    if root.tag != tag:
        got, do = f"an XML file whose root is <{shown(root.tag)[1:-1]}>", f"export the annotation in {what} format"
        raise source.wrong(source.what, got, do=do)
    return root


def read_size(root: Element, path: Path) -> tuple[int, int]:
    """Return height and width as the file's <size> says them, 0 where it doesn't.

    Raises:
        DataError: if it says something that is no size.
    """
    said = [(root.findtext(f"size/{key}") or "").strip() for key in ("height", "width")]
    height, width = (
        _SIZE(text or "0", f"{path}: <size>", "correct the size, or leave it out", DataError) for text in said
    )
    return height, width


def read_name(item: Element, where: str) -> str:
    """Return an object's class name.

    Raises:
        DataError: if it has none.
    """
    return class_name((item.findtext("name") or "").strip(), f"{where}: <name>", "give the object a class", DataError)


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
    return read_record(path, path.name, one_based).annotation(classes, size_hw, outside)


def read_record(path: Path, file_name: str, one_based: bool = True) -> Record:
    """Read what a file says of the image ``file_name``, before any class list is held against it; see `parse_voc`.

    Raises:
        DataError: with file and object for everything that makes no sense.
    """
    root = read_xml(path)
    names, boxes, difficult = [], [], []
    for number, item in enumerate(root.findall("object"), 1):
        where = f"{path}: object {number}"
        names.append(read_name(item, where))
        boxes.append([_coordinate(item, f"bndbox/{key}", where) for key in ("xmin", "ymin", "xmax", "ymax")])
        said = (item.findtext("difficult") or "").strip()
        difficult.append(flag(said or "0", f"{where}: <difficult>", "correct the flag", DataError))
    size_hw = read_size(root, path)
    return Record(
        file_name,
        np.array(boxes, np.float64).reshape(-1, 4) - (1.0 if one_based else 0.0),
        tuple(names),
        str(path),
        size_hw if min(size_hw) > 0 else None,
        difficult=np.array(difficult, bool),
    )


def begins_at_zero(path: Path) -> bool:
    """Say whether a box begins at 0 although VOC counts from 1: it was cut at the border, or the tool counts from 0."""
    corners = [item.findtext(f"bndbox/{key}") for item in read_xml(path).findall("object") for key in ("xmin", "ymin")]
    return any(float(c) == 0 for c in corners if c)


def class_names(path: Path) -> set[str]:
    """Return the class names that occur in a file.

    Raises:
        DataError: if it can't be read, or an object has no name.
    """
    objects = read_xml(path).findall("object")
    return {read_name(item, f"{path}: object {number}") for number, item in enumerate(objects, 1)}


def write_record(path: Path, record: Record, one_based: bool = True) -> None:
    """Write one image's annotation.

    Whole numbers are written as such, since common tools read coordinates as integers.
    """
    assert record.size_hw is not None
    height, width = record.size_hw
    root = Element("annotation")
    SubElement(root, "filename").text = PurePosixPath(record.file_name).name
    size = SubElement(root, "size")
    for key, value in (("width", width), ("height", height), ("depth", 3)):
        SubElement(size, key).text = str(value)
    difficult = record.difficult if record.difficult is not None else np.zeros(len(record.names), bool)
    corners = record.boxes_xyxy + (1.0 if one_based else 0.0)
    for name, box, is_difficult in zip(record.names, corners.tolist(), difficult.tolist(), strict=True):
        item = SubElement(root, "object")
        SubElement(item, "name").text = name
        SubElement(item, "difficult").text = str(int(is_difficult))
        bndbox = SubElement(item, "bndbox")
        for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
            SubElement(bndbox, key).text = f"{value:.10g}"
    indent(root)
    write_bytes(path, tostring(root, encoding="utf-8") + b"\n")


def write(folder: Path, records: Sequence[Record], classes: Sequence[str]) -> list[str]:
    """Write ``Annotations/<name>.xml`` for each image (pixels counted from 1) and ``classes.txt``.

    Returns:
        What the format can't hold of these records.
    """
    for record in records:
        write_record(folder / "Annotations" / PurePosixPath(record.file_name).with_suffix(".xml"), record)
    write_text(folder / "classes.txt", "".join(f"{name}\n" for name in classes))
    return losses(records, difficult=True, crowd=False)


def _coordinate(item: Element, key: str, where: str) -> float:
    return _COORDINATE(item.findtext(key), f"{where}: <{key}>", "correct the coordinate", DataError)


def read_split(path: Path) -> list[str]:
    """Read an ImageSets list: one name a line; a class list's trailing -1, 0 or 1 is dropped.

    Raises:
        DataError: if the list is missing, in another encoding, or a name would leave the root.
    """
    names = []
    for number, line in Source(path, "a split list", "create it, one image name a line").read_lines():
        name, _, flag = line.rpartition(" ")
        name = name.strip() if flag in ("-1", "0", "1") and name.strip() else line
        stem = name[: -len(PurePosixPath(name).suffix)] if name.lower().endswith(IMAGE_SUFFIXES) else name
        names.append(safe_name(stem, f"{path}: line {number}"))
    return names


def read_class_list(path: Path) -> dict[int, str]:
    """Read ``classes.txt``: a name a line in the order of the ids, or "id name" in every line.

    Returns:
        Id to name.

    Raises:
        DataError: if a line is no name, if only some lines begin with a number, or ids or names repeat.
    """
    source = Source(path, "class names, one a line", "one name a line, or 'id name' in every line")
    lines = source.read_lines()
    numbered = [_NUMBERED.fullmatch(line) for _, line in lines]
    if any(numbered) and not all(numbered):
        number, line = lines[numbered.index(None)]
        raise source.wrong("'id name', as other lines have it", shown(line), f"line {number}")
    found: dict[int, str] = {}
    for position, ((number, line), match) in enumerate(zip(lines, numbered, strict=True)):
        key, said = (int(match[1]), match[2]) if match else (position, line)
        name = class_name(said, f"{path}: line {number}", source.do, DataError)
        if key in found or name in found.values():
            raise source.wrong("every id and name once", shown(line), f"line {number}")
        found[key] = name
    return found


def safe_name(name: str, where: str) -> str:
    """Return a relative file name that was read from a file, if it stays below its folder.

    Raises:
        DataError: if it is absolute or climbs out.
    """
    return path_below(name, where, "names that leave the root are refused: correct the list", DataError)
