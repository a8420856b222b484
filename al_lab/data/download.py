"""Fetch the official archives.

Over TLS, resumable, checked against a published checksum or the one of the first download.
"""

from __future__ import annotations

import hashlib
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from al_lab.core.disk import check_regular
from al_lab.core.errors import DataError, explain
from al_lab.core.files import read_json, sha256, write_json
from al_lab.data.unpack import extract

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
        md5: that others have published (see `ARCHIVES`); None where nobody has, or not all say the same. Then the
            digest of the first download is recorded, which only tells a later copy from it.
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
# images.cocodataset.org is a bucket of S3 and answers https with a certificate of s3.amazonaws.com: the same files are
# there under that name, with a certificate that fits (https://github.com/mlcommons/inference/pull/2572).
_COCO = "https://s3.amazonaws.com/images.cocodataset.org"
_GTAV = "https://download.visinf.tu-darmstadt.de/data/from_games/data"
_CITYSCAPES = "https://www.cityscapes-dataset.com/downloads"
_COCO_LABELS = Archive(
    f"{_COCO}/annotations/annotations_trainval2017.zip", "coco", md5="f4bbac642086de4f52a3fdda2de5fa2c"
)
_COCO_VAL = Archive(f"{_COCO}/zips/val2017.zip", "coco", md5="442b8da7639aecaf257c1dceb8ba8c80")
# Published checksums: VOC in torchvision.datasets.voc; COCO 2017 in PaddleDetection's ppdet/utils/download.py (commit
# 005e0ff). Of COCO 2014 and GTA5 none was found that two independent projects agree on.
ARCHIVES: dict[str, tuple[Archive, ...]] = {
    "voc": (
        Archive(f"{_VOC}/voc2007/VOCtrainval_06-Nov-2007.tar", md5="c52e279531787c972589f7e41ab4ae64"),
        Archive(f"{_VOC}/voc2007/VOCtest_06-Nov-2007.tar", md5="b6e924de25625d8de591ea690078ad9f"),
        Archive(f"{_VOC}/voc2012/VOCtrainval_11-May-2012.tar", md5="6cd6e144f989b92b3379bac3b3de84fd"),
    ),
    "coco": (
        _COCO_LABELS,
        _COCO_VAL,
        Archive(f"{_COCO}/zips/train2017.zip", "coco", md5="cced6f7f71b7629ddf16f17bbcfab6b2"),
    ),
    "coco2014": (
        Archive(f"{_COCO}/annotations/annotations_trainval2014.zip", "coco"),
        _COCO_LABELS,
        _COCO_VAL,
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
                    do=f"get it at {archive.url.removesuffix(archive.file)} (an account may be needed), put it there "
                    f"and run the same command again",
                )
            )
        if not path.exists():
            fetch(archive.url, path, progress)
        check_regular(path, "an archive")
        if archive.md5 is not None:
            check_md5(path, archive.md5)
        else:
            check_first(path)
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
            if url.startswith("https:") and not response.geturl().startswith("https:"):
                raise urllib.error.URLError(f"sent on to {response.geturl()}, which is not encrypted")
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


def check_md5(path: Path, md5: str) -> None:
    """Compare a file with a published checksum.

    Raises:
        DataError: if they differ.
    """
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "md5").hexdigest()
    if digest != md5:
        raise DataError(
            explain(expected=f"md5 {md5}", got=digest, where=str(path), do="delete the file and run the command again")
        )


def check_first(path: Path) -> None:
    """Record a file's SHA-256 in ``checksums.json`` beside it, or compare it with what the first download recorded.

    Raises:
        DataError: if it is another file than the first one.
    """
    book = path.with_name("checksums.json")
    recorded: dict[str, Any] = read_json(book) if book.is_file() else {}
    digest, first = sha256(path), recorded.get(path.name, {}).get("sha256")
    if first is None:
        log.warning("%s: nobody has published a checksum of it; its own is recorded in %s", path.name, book)
        note = "recorded at the first download, not published by anybody"
        write_json(book, {**recorded, path.name: {"sha256": digest, "source": note}})
    elif digest != first:
        raise DataError(
            explain(
                expected=f"sha256 {first}, recorded at the first download",
                got=digest,
                where=str(path),
                do=f"find out which copy is right; to take this one, delete the entry from {book}",
            )
        )
