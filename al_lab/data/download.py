"""Fetch the official archives: resumable, checked where a checksum is known, extracted without leaving the folder."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from al_lab.core.errors import DataError, explain
from al_lab.data.formats.voc import safe_name

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int | None], None]  # file, bytes so far, bytes in all
_CHUNK = 1 << 20
_TIMEOUT_S = 60


@dataclass(frozen=True)
class Archive:
    """One file of a download.

    Attributes:
        url: where it is.
        below: folder of data_dir it is extracted into.
        md5: from torchvision.datasets.voc; None where none is published (counts are checked when the data is opened).
        by_hand: ``url`` is a page that wants an account; a person puts the file where archives lie.
    """

    url: str
    below: str = "."
    md5: str | None = None
    by_hand: bool = False

    @property
    def file(self) -> str:
        """Name of the archive."""
        return self.url.rpartition("/")[2]


_VOC = "https://thor.robots.ox.ac.uk/pascal/VOC"  # the mirror torchvision uses
_COCO = "http://images.cocodataset.org"
_GTAV = "https://download.visinf.tu-darmstadt.de/data/from_games/data"
_CITYSCAPES = "https://www.cityscapes-dataset.com/downloads"
ARCHIVES: dict[str, tuple[Archive, ...]] = {
    "voc": (
        Archive(f"{_VOC}/voc2007/VOCtrainval_06-Nov-2007.tar", md5="c52e279531787c972589f7e41ab4ae64"),
        Archive(f"{_VOC}/voc2007/VOCtest_06-Nov-2007.tar", md5="b6e924de25625d8de591ea690078ad9f"),
        Archive(f"{_VOC}/voc2012/VOCtrainval_11-May-2012.tar", md5="6cd6e144f989b92b3379bac3b3de84fd"),
    ),
    "coco": (
        Archive(f"{_COCO}/annotations/annotations_trainval2017.zip", "coco"),
        Archive(f"{_COCO}/zips/val2017.zip", "coco"),
        Archive(f"{_COCO}/zips/train2017.zip", "coco"),
    ),
    "coco2014": (
        Archive(f"{_COCO}/annotations/annotations_trainval2014.zip", "coco"),
        Archive(f"{_COCO}/annotations/annotations_trainval2017.zip", "coco"),
        Archive(f"{_COCO}/zips/val2017.zip", "coco"),
        Archive(f"{_COCO}/zips/train2014.zip", "coco"),
    ),
    "gtav": tuple(
        Archive(f"{_GTAV}/{n:02d}_{kind}.zip", "gtav") for kind in ("labels", "images") for n in range(1, 11)
    ),
    "cityscapes": (
        Archive(f"{_CITYSCAPES}/gtFine_trainvaltest.zip", "cityscapes", by_hand=True),
        Archive(f"{_CITYSCAPES}/leftImg8bit_trainvaltest.zip", "cityscapes", by_hand=True),
    ),
    "synthia": (Archive("https://synthia-dataset.net/downloads/SYNTHIA_RAND_CITYSCAPES.rar", "synthia", by_hand=True),),
}


def download(name: str, data_dir: Path, keep_archives: bool = False, progress: Progress | None = None) -> None:
    """Fetch and extract a dataset; what is already there is not fetched again.

    Args:
        name: a key of `ARCHIVES`.
        data_dir: where it goes; archives lie in ``downloads/`` of it, where they may also be put by hand.
        keep_archives: keep them after extraction.
        progress: told how far each file is.

    Raises:
        DataError: if a file can't be fetched, is damaged or would write outside its folder.
    """
    for archive in ARCHIVES[name]:
        path = data_dir / "downloads" / archive.file
        done = path.with_name(f"{path.name}.extracted")
        if done.exists():
            log.info("%s is extracted already (%s)", archive.file, done)
            continue
        if not path.exists() and archive.by_hand:
            raise DataError(
                explain(
                    expected=f"{archive.file}, which its owners give out themselves",
                    got="no such file",
                    where=str(path),
                    do=f"get it at {archive.url.removesuffix(archive.file)} (an account may be needed), put it there and run the same command again",
                )
            )
        if not path.exists():
            fetch(archive.url, path, progress)
        check_md5(path, archive.md5)
        log.info("extracting %s", path)
        extract(path, data_dir / archive.below)
        done.touch()
        if not keep_archives:
            path.unlink()


def fetch(url: str, path: Path, progress: Progress | None = None) -> None:
    """Download a file to ``path``, going on where an earlier attempt stopped.

    Raises:
        DataError: without a network, naming the file and where to put it by hand.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            if have and response.status != 206:  # the server sends everything again
                have = 0
            length = response.headers.get("Content-Length")
            total = have + int(length) if length else None
            with part.open("ab" if have else "wb") as stream:
                while chunk := response.read(_CHUNK):
                    stream.write(chunk)
                    have += len(chunk)
                    if progress:
                        progress(path.name, have, total)
        if total is not None and have < total:
            raise urllib.error.URLError(f"the connection ended after {have} of {total} bytes")
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:  # 416: nothing is left to send
            raise _unreachable(url, path, error) from error
    except (urllib.error.URLError, OSError) as error:
        raise _unreachable(url, path, error) from error
    os.replace(part, path)


def _unreachable(url: str, path: Path, error: Exception) -> DataError:
    return DataError(
        explain(
            expected=f"to download {path.name}",
            got=str(error),
            where=url,
            do=f"run the same command again to go on, or fetch the file elsewhere and put it at {path}",
        )
    )


def check_md5(path: Path, md5: str | None) -> None:
    """Compare a file with a known checksum (none known: nothing is checked).

    Raises:
        DataError: if they differ.
    """
    if md5 is None:
        return
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "md5").hexdigest()
    if digest != md5:
        raise DataError(
            explain(expected=f"md5 {md5}", got=digest, where=str(path), do="delete the file and run the command again")
        )


def extract(path: Path, folder: Path) -> None:
    """Unpack a tar or zip archive into a folder.

    Raises:
        DataError: if the archive is damaged, or a member would be written outside the folder.
    """
    if path.suffix == ".rar":
        raise DataError(
            explain(
                expected="an archive that Python can unpack",
                got="a RAR file",
                where=str(path),
                do=f"unpack it yourself: mkdir -p '{folder}' && unrar x '{path}' '{folder}/'",
            )
        )
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if zipfile.is_zipfile(path):
            _extract_zip(path, folder)
        else:
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")
    except tarfile.FilterError as error:
        raise DataError(
            explain(
                expected="an archive that stays in its folder",
                got=str(error),
                where=str(path),
                do="don't trust this file: delete it and download the official one",
            )
        ) from error
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(
            explain(
                expected="an intact archive",
                got=str(error),
                where=str(path),
                do="delete the file and run the command again",
            )
        ) from error


def _extract_zip(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        for member in members:
            safe_name(member.filename, str(path))
        for member in members:
            target = folder / member.filename
            if member.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)
