"""Files of a dataset made to harm: nothing outside is read, no program starts, nothing hangs, and all ends in our
sentences."""

import json
import os
import re
import signal
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from al_lab.core.errors import DataError
from al_lab.data.datasets.coco_folder import COCOFolder
from al_lab.data.datasets.folder import Folder
from al_lab.data.datasets.voc_folder import VOCFolder

_SECONDS = 30  # for one dataset; the largest takes a second on a machine with nothing else to do
_SECRET = "the-readers-secret"
Act = Callable[[Path], object]


def box(name: str = "cat") -> str:
    corners = "".join(f"<{k}>{v}</{k}>" for k, v in (("xmin", 2), ("ymin", 2), ("xmax", 20), ("ymax", 20)))
    return f"<object><name>{name}</name><bndbox>{corners}</bndbox></object>"


def xml(content: str, head: str = "") -> Act:
    return lambda root: (root / "Annotations/a.xml").write_text(f"{head}<annotation>{content}</annotation>")


def raw(name: str, content: bytes) -> Act:
    return lambda root: ((root / name).parent.mkdir(parents=True, exist_ok=True), (root / name).write_bytes(content))


def pipe(name: str) -> Act:
    return lambda root: ((root / name).unlink(missing_ok=True), os.mkfifo(root / name))


def folder(name: str) -> Act:
    return lambda root: ((root / name).unlink(missing_ok=True), (root / name).mkdir(parents=True))


def link(name: str, target: str) -> Act:
    return lambda root: ((root / name).unlink(missing_ok=True), (root / name).symlink_to(target))


def split(*names: str | bytes) -> Act:
    lines = [n if isinstance(n, bytes) else n.encode() for n in names]
    return raw("ImageSets/Main/train.txt", b"\n".join(lines))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *extra: bytes, pixels: bool = True) -> bytes:
    """A PNG of zeros, packed; without ``pixels`` only its header says how large it is."""
    body = zlib.compressobj()
    data = b"".join(body.compress(bytes(1 + width)) for _ in range(height if pixels else 1)) + body.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(extra) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def frames(root: Path) -> None:
    pictures = [Image.new("P", (60, 40), k % 250) for k in range(501)]
    pictures[0].save(root / "JPEGImages/a.gif", save_all=True, append_images=pictures[1:])
    (root / "JPEGImages/a.jpg").unlink()


def cut(root: Path) -> None:
    path = root / "JPEGImages/a.jpg"
    path.write_bytes(path.read_bytes()[:400])


def coco(change: Callable[[dict], object] | None = None, encode: Callable[[str], bytes] = str.encode) -> Act:
    """Turn the folder into one with COCO annotations, of which something is changed."""

    def act(root: Path) -> None:
        content = {
            "images": [{"id": n, "file_name": f"{s}.jpg", "height": 40, "width": 60} for n, s in enumerate("ab")],
            "categories": [{"id": 1, "name": "cat"}],
            "annotations": [{"id": n, "image_id": n, "category_id": 1, "bbox": [2, 2, 9, 9]} for n in range(2)],
        }
        text = (change(content) if change else None) or json.dumps(content)
        (root / "annotations").mkdir()
        (root / "annotations/train.json").write_bytes(encode(str(text)))

    return act


def coco_name(name: str) -> Act:
    return coco(lambda content: content["images"][0].update(file_name=name))


LAUGHS = "".join(f"<!ENTITY l{n + 1} '{f'&l{n};' * 10}'>" for n in range(9))
XML = {
    "billion laughs": (
        xml("<object><name>&l9;</name></object>", f"<!DOCTYPE a [<!ENTITY l0 'ha'>{LAUGHS}]>"),
        "XML bomb",
    ),
    "an external entity": (
        xml("<object><name>&x;</name></object>", "<!DOCTYPE a [<!ENTITY x SYSTEM '../../secret.txt'>]>"),
        "XML bomb",
    ),
    "an external DTD": (xml(box(), "<!DOCTYPE a SYSTEM 'http://127.0.0.1:1/a.dtd'>"), "XML bomb"),
    "xinclude": (
        xml(
            '<object><name><i:include xmlns:i="http://www.w3.org/2001/XInclude" '
            'href="../../secret.txt"/></name></object>'
        ),
        "a class name",
    ),
    "5 MB of text": (xml(box("x" * 5_000_000)), "characters"),
    "20,000 levels": (xml("<a>" * 20_000 + "</a>" * 20_000), "^$"),
    "2,000 objects": (xml(box() * 2_000), "1999 objects are copies"),
    "an encoding that is none": (xml(box(), "<?xml version='1.0' encoding='foo'?>"), "can't be parsed"),
    "UTF-16 that is none": (xml(box(), "<?xml version='1.0' encoding='utf-16'?>"), "can't be parsed"),
    "an annotation that is a folder": (folder("Annotations/a.xml"), "a folder"),
    "an annotation that is a pipe": (pipe("Annotations/a.xml"), "a named pipe"),
    "an annotation that is a device": (link("Annotations/a.xml", "/dev/zero"), "a device"),
    "an annotation that is a loop of links": (link("Annotations/a.xml", "a.xml"), "links that lead in a circle"),
    "an empty annotation": (raw("Annotations/a.xml", b""), "can't be parsed"),
    "coordinates of nonsense": (xml(box().replace(">2<", ">1e999<")), "a finite number"),
    "an annotation with a NUL": (raw("Annotations/a.xml", b"<annotation>\0</annotation>"), "can't be parsed"),
    "a class name of HTML": (xml(box("&lt;script&gt;")), ""),
}
IMAGES = {
    "a header of 60,000 x 60,000": (raw("JPEGImages/a.jpg", png(60_000, 60_000, pixels=False)), "decompression bomb"),
    "60,000 x 20": (raw("JPEGImages/a.jpg", png(60_000, 20)), "^$"),
    "0 x 10": (raw("JPEGImages/a.jpg", png(0, 10, pixels=False)), "a readable image"),
    "1 x 1": (raw("JPEGImages/a.jpg", png(1, 1)), "a box inside the image of width 1"),
    "PostScript named .jpg": (
        raw("JPEGImages/a.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"),
        "no image in one of the formats",
    ),
    "PDF named .png": (raw("JPEGImages/a.jpg", b"%PDF-1.4\n"), "no image in one of the formats"),
    "SVG named .png": (raw("JPEGImages/a.jpg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "no image in one of"),
    "a GIF of 501 frames": (frames, ""),
    "a JPEG cut short": (cut, "a broken one"),
    "text that unpacks to 100 MB": (
        raw("JPEGImages/a.jpg", png(60, 40, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100_000_000))))),
        "a broken one",
    ),
    "a profile that unpacks to 100 MB": (
        raw("JPEGImages/a.jpg", png(60, 40, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(100_000_000))))),
        "",
    ),
    "an image that is a pipe": (pipe("JPEGImages/a.jpg"), "a named pipe"),
    "an image that is a folder": (folder("JPEGImages/a.jpg"), "1 of 2 names have no image"),
    "an image that is a device": (link("JPEGImages/a.jpg", "/dev/zero"), "a device"),
    "an image that is a loop of links": (link("JPEGImages/a.jpg", "a.jpg"), "links that lead in a circle"),
    "an image that is a link out to text": (link("JPEGImages/a.jpg", "../../secret.txt"), "no image in one of"),
    "an empty image": (raw("JPEGImages/a.jpg", b""), "no image in one of"),
}
LISTS = {
    "a list that climbs": (split("../secret", "b"), "names that leave the root"),
    "a list of an absolute path": (split("/etc/passwd", "b"), "names that leave the root"),
    "a list that climbs by backslashes": (split("..\\secret", "b"), "names that leave the root"),
    "a list of drive letters": (split("C:/secret", "b"), "names that leave the root"),
    "a list with a NUL": (split("a\0", "b"), "text that UTF-8"),
    "a list in UTF-16": (raw("ImageSets/Main/train.txt", "a\nb".encode("utf-16")), "UTF-8"),
    "a list with a byte order mark": (raw("ImageSets/Main/train.txt", b"\xef\xbb\xbfa\nb\n"), ""),
    "a list that is a pipe": (pipe("ImageSets/Main/train.txt"), "a named pipe"),
    "a list that is a folder": (folder("ImageSets/Main/train.txt"), "a folder"),
    "a name of 5,000 characters in a list": (split("x" * 5_000, "b"), "characters"),
    "classes in Latin-1": (raw("classes.txt", b"caf\xe9\ncat\n"), "UTF-8"),
    "classes in UTF-16": (raw("classes.txt", "cat\n".encode("utf-16")), "UTF-16"),
    "a class twice": (raw("classes.txt", b"cat\ncat\n"), "name once"),
    "a class name of 5 MB": (raw("classes.txt", b"x" * 5_000_000), "characters"),
    "a class name with a NUL": (raw("classes.txt", b"c\0at\n"), "text that UTF-8"),
    "classes that are a pipe": (pipe("classes.txt"), "a named pipe"),
    "classes that are a folder": (folder("classes.txt"), "a folder"),
    "a folder that is a loop of links": (link("JPEGImages/loop", "."), ""),
    "names with newline and escape": (
        lambda root: (root / "JPEGImages/b.jpg").rename(root / "JPEGImages/b\n\x1b[31m.jpg"),
        "",
    ),
    "names that are no UTF-8": (
        lambda root: os.rename(os.fsencode(root / "JPEGImages/b.jpg"), os.fsencode(root / "JPEGImages") + b"/\xff.jpg"),
        "1 of 2 names have no image",
    ),
}
COCO = {
    "COCO that climbs": (coco_name("../../secret.txt"), "names that leave the root"),
    "COCO of an absolute path": (coco_name("/etc/passwd"), "names that leave the root"),
    "COCO with a backslash": (coco_name("..\\..\\secret.txt"), "names that leave the root"),
    "COCO with a drive letter": (coco_name("C:\\secret.txt"), "names that leave the root"),
    "COCO with a name of 5,000 characters": (coco_name("x" * 5_000), "characters"),
    "COCO with a NUL": (coco_name("a\0.jpg"), "text that UTF-8"),
    "COCO with half a character": (coco_name("\ud800.jpg"), "text"),
    "COCO of 100,000 levels": (coco(lambda content: "[" * 100_000), "no JSON"),
    "COCO in UTF-16": (coco(encode=lambda text: text.encode("utf-16")), "^$"),  # JSON may be, and Python reads it
    "COCO with a byte order mark": (coco(encode=lambda text: b"\xef\xbb\xbf" + text.encode()), "^$"),
    "COCO that is no text": (coco(encode=lambda _: b"\xff\xfe\x00\xd8{}"), "no JSON"),
    "COCO id 9e999": (coco(lambda c: json.dumps(c).replace('"id": 0,', '"id": 9e999,')), "a number or text"),
    "COCO boxes of NaN": (coco(lambda c: json.dumps(c).replace("[2, 2,", "[NaN, 2,")), "a finite number"),
    "COCO boxes of 400 digits": (coco(lambda c: json.dumps(c).replace("[2, 2,", f"[{10**400}, 2,")), "a finite number"),
    "COCO that is a pipe": (
        lambda r: ((r / "annotations").mkdir(), os.mkfifo(r / "annotations/train.json")),
        "a named pipe",
    ),
    "COCO that is a folder": (folder("annotations/train.json"), "a folder"),
    "COCO that is a device": (
        lambda r: ((r / "annotations").mkdir(), (r / "annotations/train.json").symlink_to("/dev/zero")),
        "a device",
    ),
    "COCO of a list": (coco(lambda content: "[1]"), ""),
    "COCO with images that are numbers": (coco(lambda content: '{"images":[1],"categories":[],"annotations":[]}'), ""),
}
LARGE = {
    "50 MB of text": (xml(box("x" * 50_000_000)), "characters|MB"),
    "200,000 levels": (xml("<a>" * 200_000 + "</a>" * 200_000), "^$"),
    "100,000 objects": (xml(box() * 100_000), "99999 objects are copies"),
    "60,000 x 1,000": (raw("JPEGImages/a.jpg", png(60_000, 1_000)), "^$"),
    "12,000 x 12,000 of zeros": (raw("JPEGImages/a.jpg", png(12_000, 12_000)), "^$"),
    "a class name of 50 MB": (raw("classes.txt", b"x" * 50_000_000), "characters"),
}
CASES = {**XML, **IMAGES, **LISTS, **COCO}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A small VOC folder to be spoiled, secrets beside it, and programs on the PATH that would leave a trace."""
    base = tmp_path / "photos"
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (base / name).mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (2, 40, 60, 3), np.uint8)
    for name, array in zip("ab", pixels, strict=True):
        Image.fromarray(array).save(base / f"JPEGImages/{name}.jpg")
        (base / f"Annotations/{name}.xml").write_text(f"<annotation>{box()}</annotation>")
    (base / "classes.txt").write_text("cat\n")
    (base / "ImageSets/Main/train.txt").write_text("a\nb\n")
    (tmp_path / "secret.txt").write_text(_SECRET)
    (tmp_path / "bin").mkdir()
    for program in ("gs", "gswin64c", "xdg-open", "djpeg"):
        (tmp_path / "bin" / program).write_text(f"#!/bin/sh\ntouch '{tmp_path}/started'\n")
        (tmp_path / "bin" / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")

    def hangs(*_):
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(_SECONDS)
    yield base
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    assert not (tmp_path / "started").exists()


def sentences(make: Callable[[], Folder]) -> list[str]:
    """Open, verify and load a dataset; return what is wrong with it."""
    try:
        dataset = make()
    except DataError as error:
        return [str(error)]
    found = [f"{f.file}: {f.message}; {f.remedy}" for f in dataset.verify() if f.severity != "info"]
    for sample_id in dataset.pool_ids:
        try:
            image = dataset.load_image(sample_id)
            assert image.dtype == np.uint8
            assert _SECRET.encode() not in image.tobytes()
            if dataset.has_truth(sample_id):
                dataset.truth(sample_id)
        except DataError as error:
            found.append(str(error))
    return found


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", [*CASES, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)])
def test_a_hostile_file_ends_in_a_sentence(root, name):
    act, message = (CASES | LARGE)[name]
    if name in LARGE:
        signal.alarm(20 * _SECONDS)
    act(root)
    own = (lambda: COCOFolder(str(root), image_dir="JPEGImages")) if name in COCO else (lambda: VOCFolder(str(root)))
    for make in (own,) if name in LARGE else (lambda: Folder(str(root)), own):
        found = sentences(make)
        assert _SECRET not in str(found) and not any(len(text) > 2_000 for text in found)
        assert not any("\x1b" in text or "Traceback" in text for text in found)
    assert re.search(message, "\n".join(found)), found
