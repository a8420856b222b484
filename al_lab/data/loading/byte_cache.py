"""Pictures and label maps that take long to read and never change: decoded and resized once, then kept as bytes.

A file is named after what it was made from (path, size and time of the original, and how it was resized), so an image
that changes is another file. It begins with its shape and a checksum: what a crash, a full disk or a bit left behind is
made again. Anybody may delete the folder at any time.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from al_lab.core.disk import check_regular
from al_lab.core.errors import LabError
from al_lab.core.files import atomic_path

log = logging.getLogger(__name__)

_HEADER = struct.Struct("<8sIIIII")  # magic, height, width, channels, checksum of the bytes, checksum of the header
_MAGIC = b"allabpx1"
_WORTH_PX = 1 << 19  # a smaller original is decoded in a few milliseconds, which nothing has to be kept for
_SPARE_BYTES = 5 << 30  # of the disk, which others need
_PART = 16  # of the room that is left, what a process takes before it looks again at what others took


Make = Callable[[], tuple[np.ndarray, int]]


def kept(cache: ByteCache | None, original: Callable[[], Path], how: str, make: Make) -> np.ndarray:
    """Return what `ByteCache.get` returns, or without a cache what ``make`` does."""
    return make()[0] if cache is None else cache.get(original(), how, make)


class ByteCache:
    """A folder of arrays of bytes, of bounded size; whatever happens to it costs time and nothing else.

    Args:
        folder: made at the first file.
        most_gb: how much is kept; when that is full, or the disk nearly, nothing is added.
    """

    def __init__(self, folder: Path, most_gb: float) -> None:
        self.folder, self._most = folder.expanduser(), int(most_gb * 1e9)
        self._left = 0
        self._is_closed = False

    def get(self, original: Path, how: str, make: Make) -> np.ndarray:
        """Return what ``make`` returns, from the cache if it is there.

        Args:
            original: the file it is made from.
            how: what else decides it: size, filter, meaning of labels.
            make: returns (H, W) or (H, W, 3) uint8, and the pixels of the original, by which it is worth keeping.

        Returns:
            the array, writable, in memory of its own.
        """
        path = self._path(original, how)
        if path is None:
            return make()[0]
        found = _read(path)
        if found is None:
            found, size_px = make()
            if size_px >= _WORTH_PX and not self._is_closed:
                self._keep(path, found)
        return found

    def _path(self, original: Path, how: str) -> Path | None:
        try:
            state = original.stat()
        except OSError:
            return None  # whoever reads it says what is wrong
        text = f"{original.absolute()}\0{state.st_size}\0{state.st_mtime_ns}\0{how}"
        name = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:40]
        return self.folder / name[:2] / name[2:]

    def _keep(self, path: Path, array: np.ndarray) -> None:
        if self._left < array.nbytes:
            room = self._room()
            if room < array.nbytes:
                self._close(f"is full ({self._most / 1e9:g} GB, runtime.image_cache_gb), or its disk nearly")
                return
            self._left = max(array.nbytes, room // _PART)
        height, width, channels = (*array.shape, 0)[:3]
        pixels = array.tobytes()
        front = struct.pack("<8sIIII", _MAGIC, height, width, channels, zlib.crc32(pixels))
        try:
            with atomic_path(path) as temporary, temporary.open("wb") as stream:
                stream.write(front + struct.pack("<I", zlib.crc32(front)))
                stream.write(pixels)
        except (LabError, OSError) as error:
            self._close(f"can't be written: {error}")
            return
        self._left -= array.nbytes

    def _room(self) -> int:
        """Return how many bytes may be added."""
        taken = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for folder in os.scandir(self.folder):
                taken += sum(file.stat().st_size for file in os.scandir(folder)) if folder.is_dir() else 0
            return min(self._most - taken, shutil.disk_usage(self.folder).free - _SPARE_BYTES)
        except OSError:  # a file that went away meanwhile, or no folder
            return 0

    def _close(self, why: str) -> None:
        self._is_closed = True
        log.info("%s %s; what is not in it is decoded each time", self.folder, why)


def _read(path: Path) -> np.ndarray | None:
    """Return an array that was kept whole; None if there is none."""
    try:
        check_regular(path, "decoded pixels")
        with path.open("rb", buffering=0) as stream:
            front = stream.read(_HEADER.size)
            if len(front) < _HEADER.size:
                return None
            magic, height, width, channels, checksum, of_header = _HEADER.unpack(front)
            size = height * width * max(channels, 1)
            if (
                magic != _MAGIC
                or of_header != zlib.crc32(front[:-4])
                or os.fstat(stream.fileno()).st_size != _HEADER.size + size
            ):
                return None
            pixels = np.empty(size, np.uint8)
            if stream.readinto(pixels.data) != size or zlib.crc32(pixels.data) != checksum:
                return None
    except (OSError, LabError):
        return None
    return pixels.reshape((height, width, channels) if channels else (height, width))
