"""What the points of the check share: the device, how much is asked of it, and photographs to train on."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from al_lab.core.pool import INITIAL, purchase_dir
from al_lab.core.record.purchase import write_labels
from al_lab.core.rng import Rng
from al_lab.core.types import Annotation
from al_lab.data.formats.images import load_rgb, read_size_hw

Seen = Iterator[tuple[str, str]]  # what was looked at, and what was seen; a point yields them as they come

_CLASSES = tuple(f"class{n:02d}" for n in range(20))
_SIZES = ((375, 500), (500, 375))


@dataclass(frozen=True)
class Setup:
    """One check.

    Attributes:
        device: ``cuda`` or ``cpu``.
        smoke: a few steps of tiny networks, to see that the check itself runs.
        root: the checkout.
        scratch: a folder for what points write.
        photos: a folder of JPEG files to train on; None: drawn ones of VOC's size.
    """

    device: str
    smoke: bool
    root: Path
    scratch: Path
    photos: Path | None = None

    def wait(self) -> None:
        """Wait for the device, so that a time is that of the work."""
        if self.device == "cuda":
            torch.cuda.synchronize()


class Photos:
    """JPEG files, read as a dataset reads them, two made-up boxes each.

    Args:
        num: how many; fewer if the folder has fewer.
        folder: of JPEG files; None: drawn.
    """

    name, task, classes = "photos", "detection", _CLASSES
    test_ids: tuple[str, ...] = ()
    val_ids: tuple[str, ...] = ()

    def __init__(self, num: int, folder: Path | None = None) -> None:
        files = sorted(folder.glob("*.jpg"))[:num] if folder is not None else []
        self.is_drawn = not files
        if self.is_drawn:
            self._drawn = tempfile.TemporaryDirectory(prefix="photos_")  # gone with this object
            files = [_draw(Path(self._drawn.name) / f"drawn{n:03d}.jpg", n) for n in range(num)]
        self._files = {path.stem: path for path in files}
        self.pool_ids = tuple(sorted(self._files))

    def load_image(self, sample_id: str) -> np.ndarray:
        """Decode one."""
        return load_rgb(self._files[sample_id])

    def size_hw(self, sample_id: str) -> tuple[int, int]:
        """Return its height and width."""
        return read_size_hw(self._files[sample_id])

    def buy(self, run_dir: Path) -> None:
        """Write labels of all of them into a run folder."""
        labels = {}
        for sample_id in self.pool_ids:
            height, width = self.size_hw(sample_id)
            rng = Rng(0, "boxes", sample_id).generator()
            corners = rng.uniform(0, 0.5, (2, 2)) * (width, height)
            boxes = np.concatenate([corners, corners + rng.uniform(0.2, 0.5, (2, 2)) * (width, height)], 1)
            labels[sample_id] = Annotation.make(boxes, rng.integers(0, len(_CLASSES), 2))
        write_labels(purchase_dir(run_dir, INITIAL), labels)


def _draw(path: Path, number: int) -> Path:
    """Write a JPEG with as much detail as a photograph: noise at several scales, about 80 kB."""
    rng = Rng(0, "photo", number).generator()
    height, width = _SIZES[number % 2]
    total = np.full((height, width, 3), 128.0)
    for scale in (2, 8, 32, 128):
        coarse = rng.normal(0, 24, (-(-height // scale), -(-width // scale), 3))
        total += coarse.repeat(scale, 0).repeat(scale, 1)[:height, :width]
    Image.fromarray(total.clip(0, 255).astype(np.uint8)).save(path, "JPEG", quality=90)
    return path
