"""Two domains of colored patches that live in memory, and purchases of their pixels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.core.pool import file_stem, purchase_dir, save_region
from al_lab.core.record.purchase import write_pixel_labels
from al_lab.core.rng import Rng
from al_lab.core.types import Region
from al_lab.data.datasets.segmentation import SegmentationDataset

COLORS = np.array([[220, 40, 40], [40, 200, 60], [40, 60, 220]], np.int64)


class Patches(SegmentationDataset):
    """Three classes in 8x8 patches with 1 % void; the source is darker, and of another size. ``opened`` lists what was
    read."""

    def __init__(self, source: int = 5, sizes: tuple[tuple[int, int], ...] = ((24, 32),), **options: Any) -> None:
        self.sizes, self.opened = sizes, list[str]()
        super().__init__(
            "patches",
            ("red", "green", "blue"),
            [f"p/{k}" for k in range(6)],
            (),
            ["t/0", "t/1", "t/2"],
            [f"source/{k}" for k in range(source)],
            **({"source_hw": (20, 28), "target_hw": (16, 24)} | options),
        )

    def size_hw(self, sample_id: str) -> tuple[int, int]:
        return (30, 40) if sample_id.startswith("source") else self.sizes[int(sample_id[-1]) % len(self.sizes)]

    def image_path(self, sample_id: str) -> Path:
        return Path(sample_id)

    def load_image(self, sample_id: str) -> np.ndarray:
        self.opened.append(sample_id)
        color = COLORS[self._map(sample_id)] // (2 if sample_id.startswith("source") else 1)
        noise = Rng(0, "noise", sample_id).generator().integers(-20, 20, color.shape)
        return (color + noise).clip(0, 255).astype(np.uint8)

    def _parse(self, sample_id: str) -> tuple[np.ndarray, tuple[str, ...]]:
        self.opened.append(sample_id)
        label_HW = self._map(sample_id).astype(np.uint8)
        label_HW[Rng(0, "void", sample_id).generator().random(label_HW.shape) < 0.01] = 255
        return label_HW, ()

    def _map(self, sample_id: str) -> np.ndarray:
        height, width = self.size_hw(sample_id)
        coarse = Rng(0, "classes", sample_id).generator().integers(0, 3, (-(-height // 8), -(-width // 8)))
        return coarse.repeat(8, 0).repeat(8, 1)[:height, :width]


def buy(run_dir: Path, dataset: Patches, cycle: int, pixels: dict[str, Sequence[int]]) -> None:
    """Write what an oracle reveals of some pixels at the end of a cycle."""
    folder = purchase_dir(run_dir, cycle)
    for sample_id, wanted in pixels.items():
        region = Region(np.array(sorted(wanted)), dataset.size_hw(sample_id))
        save_region(folder / "masks" / f"{file_stem(sample_id)}.npz", region)
        write_pixel_labels(folder, sample_id, dataset.truth(sample_id).reshape(-1)[region.pixels])
