"""Archives: good ones are unpacked, and no hostile one writes anything, runs anything, hangs or ends in a traceback."""

import io
import os
import re
import stat
import string
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from al_lab.core.errors import DataError
from al_lab.data.unpack import extract

KINDS = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)


def tar_of(path: Path, *members, mode="w"):
    """Write a tar of (name, kind or bytes, link target)."""
    with tarfile.open(path, mode) as archive:
        for name, content, *target in members:
            info = tarfile.TarInfo(name)
            if content in KINDS:
                info.type, info.linkname = content, (target or [""])[0]
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if info.size else None)


def zip_of(path: Path, *members, method=zipfile.ZIP_DEFLATED, **changes):
    """Write a zip of (name, bytes, mode); ``changes`` are made to its infos."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content, *mode in members:
            info = zipfile.ZipInfo("x")
            info.filename, info.external_attr, info.compress_type = name, (mode or [0])[0] << 16, method
            archive.writestr(info, content)


def flipped(path: Path, at_local: int, at_central: int, value: int, size="<H"):
    """Change a field of every header of a zip."""
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\3\4", at_local), (b"PK\1\2", at_central)):
        for found in re.finditer(re.escape(mark), bytes(data)):
            struct.pack_into(size, data, found.start() + offset, value)
    path.write_bytes(data)


def path_max_chain(path: Path):
    """CVE-2025-4517: what a chain of links leads to is not seen once its real path is longer than PATH_MAX."""
    part, steps = "d" * 190, string.ascii_lowercase[:21]
    members, here = [], ""
    for step in steps:
        members += [(f"{here}{part}", tarfile.DIRTYPE), (f"{here}{step}", tarfile.SYMTYPE, part)]
        here += f"{part}/"
    last = "/".join([*steps, "l" * 190])
    members += [(last, tarfile.SYMTYPE, "../" * len(steps)), ("escape", tarfile.SYMTYPE, f"{last}/..")]
    tar_of(path, *members, ("escape/evil.txt", b"evil"))


HOSTILE = {
    "climbs.zip": (lambda p: zip_of(p, ("good.txt", b"a"), ("../evil.txt", b"evil")), "climbs out"),
    "climbs_inside.zip": (lambda p: zip_of(p, ("a/../../evil.txt", b"evil")), "climbs out"),
    "absolute.zip": (lambda p: zip_of(p, (str(p.parent / "evil.txt"), b"evil")), "an absolute name"),
    "drive.zip": (lambda p: zip_of(p, ("C:/evil.txt", b"evil")), "an absolute name"),
    "backslash.zip": (lambda p: zip_of(p, ("..\\evil.txt", b"evil")), "a backslash"),
    "nul.zip": (
        lambda p: (zip_of(p, ("a#b.txt", b"x")), p.write_bytes(p.read_bytes().replace(b"a#b", b"a\0b"))),
        "a NUL",
    ),
    "link.zip": (lambda p: zip_of(p, ("out", b"..", stat.S_IFLNK | 0o777), ("out/evil.txt", b"evil")), "a link"),
    "device.zip": (lambda p: zip_of(p, ("null", b"", stat.S_IFCHR | 0o666)), "a device"),
    "pipe.zip": (lambda p: zip_of(p, ("pipe", b"", stat.S_IFIFO | 0o666)), "a device"),
    "file_and_folder.zip": (lambda p: zip_of(p, ("a", b"x"), ("a/b", b"y")), "of a file and of a folder: 'a'"),
    "long.zip": (lambda p: zip_of(p, ("n" * 300, b"x")), "too long"),
    "deep.zip": (lambda p: zip_of(p, ("d/" * 2000 + "x", b"x")), "too long"),
    "encrypted.zip": (lambda p: (zip_of(p, ("a", b"x")), flipped(p, 6, 8, 1)), "an encrypted file"),
    "method.zip": (lambda p: (zip_of(p, ("a", b"x")), flipped(p, 8, 10, 99)), "compression method 99"),
    "huge.zip": (
        lambda p: (zip_of(p, ("a", b"x")), flipped(p, 22, 24, 0xFFFFFFF0, "<I")),
        "GB in it|intact|bytes of a",
    ),
    "cut.zip": (lambda p: (zip_of(p, ("a", b"x" * 999)), p.write_bytes(p.read_bytes()[:60])), "an intact archive"),
    "crc.zip": (lambda p: (zip_of(p, ("a", b"x" * 999)), flipped(p, 14, 16, 7, "<I")), "an intact archive"),
    "really_a_tar.zip": (lambda p: tar_of(p, ("x", b"x")), "a zip archive, as its name says, got a tar"),
    "text.zip": (lambda p: p.write_bytes(b"not an archive"), "got neither zip nor tar"),
    "empty.zip": (lambda p: p.write_bytes(b""), "got neither zip nor tar"),
    "climbs.tar": (lambda p: tar_of(p, ("good.txt", b"a"), ("../evil.txt", b"evil")), "climbs out"),
    "absolute.tar": (lambda p: tar_of(p, (str(p.parent / "evil.txt"), b"evil")), "an absolute name"),
    "link_out.tar": (lambda p: tar_of(p, ("out", tarfile.SYMTYPE, ".."), ("out/evil.txt", b"evil")), "a link"),
    "link_inside.tar": (lambda p: tar_of(p, ("a", b"x"), ("b", tarfile.SYMTYPE, "a")), "a link"),
    "hard_link.tar": (lambda p: tar_of(p, ("passwd", tarfile.LNKTYPE, "/etc/passwd")), "a link"),
    "device.tar": (lambda p: tar_of(p, ("null", tarfile.CHRTYPE)), "a device"),
    "block.tar": (lambda p: tar_of(p, ("disk", tarfile.BLKTYPE)), "a device"),
    "pipe.tar": (lambda p: tar_of(p, ("pipe", tarfile.FIFOTYPE)), "a pipe"),
    "file_and_folder.tar": (lambda p: tar_of(p, ("a", b"x"), ("a/b", b"y")), "of a file and of a folder"),
    "long.tar": (lambda p: tar_of(p, ("n" * 300, b"x")), "too long"),
    "path_max.tar": (path_max_chain, "a link"),
    "path_max.zip": (path_max_chain, "a zip archive, as its name says, got a tar"),
    "cut.tar": (lambda p: (tar_of(p, ("a", b"x" * 9999)), p.write_bytes(p.read_bytes()[:2000])), "an intact archive"),
    "cut.tar.gz": (
        lambda p: (tar_of(p, ("a", os.urandom(9999)), mode="w:gz"), p.write_bytes(p.read_bytes()[:2000])),
        "an intact archive",
    ),
    "cut.tar.xz": (
        lambda p: (tar_of(p, ("a", os.urandom(9999)), mode="w:xz"), p.write_bytes(p.read_bytes()[:2000])),
        "archive",
    ),
    "really_a_zip.tar": (lambda p: zip_of(p, ("x", b"x")), "a tar archive, as its name says, got a zip"),
    "pipe_itself.tar": (os.mkfifo, "got a named pipe"),
    "folder_itself.zip": (Path.mkdir, "got a folder"),
    "missing.tar": (lambda p: None, "no such file"),
    "a.rar": (lambda p: p.write_bytes(b"Rar!"), "unpack it yourself: mkdir -p '.*/out' && unrar x"),
    "a.bin": (lambda p: tar_of(p, ("x", b"x")), "an archive named .zip or .tar"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_one_sentence_and_writes_nothing(tmp_path, name):
    make, message = HOSTILE[name]
    folder, path = tmp_path / "below" / "out", tmp_path / "below" / name
    path.parent.mkdir()
    make(path)
    with pytest.raises(DataError, match=message) as error:
        extract(path, folder)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert not [p for p in tmp_path.rglob("*evil*")]
    written = [p for p in folder.rglob("*") if p.is_file()]
    assert not written or "intact archive" in str(error.value)  # a damaged file is found while it is written
    assert not [p for p in folder.rglob("*") if p.is_symlink()]


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.zip", zip_of),
        ("a.tar", tar_of),
        ("a.tar.gz", lambda p, *m: tar_of(p, *m, mode="w:gz")),
        ("a.tgz", lambda p, *m: tar_of(p, *m, mode="w:gz")),
        ("stored.zip", lambda p, *m: zip_of(p, *m, method=zipfile.ZIP_STORED)),
        ("lzma.zip", lambda p, *m: zip_of(p, *m, method=zipfile.ZIP_LZMA)),
    ],
)
def test_a_good_archive_is_unpacked_over_what_is_there(tmp_path, name, write):
    write(tmp_path / name, ("./inner/x.txt", b"new"), ("y ü.jpg", b""))
    for _ in range(2):
        extract(tmp_path / name, tmp_path / "out")
    assert (tmp_path / "out" / "inner" / "x.txt").read_bytes() == b"new"
    assert (tmp_path / "out" / "y ü.jpg").read_bytes() == b""
    assert (tmp_path / "out" / "inner" / "x.txt").stat().st_mode & 0o111 == 0


def test_a_link_that_lay_in_the_folder_is_not_followed(tmp_path):
    (tmp_path / "private").mkdir()
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "private")
    (tmp_path / "out" / "b.txt").symlink_to(tmp_path / "mine.txt")
    tar_of(tmp_path / "a.tar", ("b.txt", b"theirs"), ("a/evil.txt", b"evil"))
    with pytest.raises(DataError, match="a link on the way"):
        extract(tmp_path / "a.tar", tmp_path / "out")
    assert (tmp_path / "mine.txt").read_text() == "mine" and not list((tmp_path / "private").iterdir())


@pytest.mark.parametrize("where", ["file", "folder"])
def test_what_is_in_the_way_is_named(tmp_path, where):
    tar_of(tmp_path / "a.tar", ("a/b", b"x"))
    way = tmp_path / "out" / ("a" if where == "file" else "a/b/c")
    way.parent.mkdir(parents=True)
    way.touch()
    with pytest.raises(DataError, match="in the way"):
        extract(tmp_path / "a.tar", tmp_path / "out")
