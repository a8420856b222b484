"""Photographs whose pixels nobody has labeled, and purchases of them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from al_lab.core.budget import Allowance
from al_lab.core.errors import AwaitingLabels
from al_lab.core.oracle import Oracle
from al_lab.core.pool import INITIAL
from al_lab.core.record.purchase import Purchase, write_queries
from al_lab.core.types import Query, Region
from al_lab.data.datasets.segmentation_folder import SegmentationFolder

CLASSES = ("road", "car", "sky")
SIZE = (6, 8)


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are many small files; that they reach the disk is tested elsewhere."""
    monkeypatch.setattr("os.fsync", lambda fd: None)


@pytest.fixture
def dataset(tmp_path: Path) -> SegmentationFolder:
    """Four photographs; one is stored on its side."""
    root = tmp_path / "photos" / "images"
    root.mkdir(parents=True)
    for n, name in enumerate(["a", "b", "c (1)", "side"]):
        exif, size = Image.Exif(), SIZE[::-1]
        if name == "side":
            exif[0x0112] = 6
            size = SIZE
        Image.new("RGB", size, (40 * n, 90, 200)).save(root / f"{name}.jpg", exif=exif)
    return SegmentationFolder(str(root.parent), classes=list(CLASSES), test_split="none")


@pytest.fixture
def purchase(tmp_path: Path) -> Callable[..., Purchase]:
    """Make a purchase of whole images, or with ``pixels`` of these flat indices of each."""

    def make(
        *ids: str, pixels: list[int] | None = None, unit: str | None = None, cycle: int = INITIAL, run: str = "run"
    ) -> Purchase:
        region = None if pixels is None else Region(np.array(pixels), SIZE)
        allowance = Allowance(unit or ("image" if pixels is None else "pixel"), 9, per_image=pixels is not None)
        return placed(Purchase(tmp_path / run, cycle, tuple(Query(i, region, 0.5) for i in ids), allowance))

    return make


def placed(order: Purchase) -> Purchase:
    """Write the queries of a purchase, as the select stage does."""
    write_queries(order.folder, order.queries, order.allowance, {})
    return order


def folder_of(order: Purchase) -> Path:
    """The folder of a request."""
    return order.run_dir / "to_label" / ("initial" if order.cycle == INITIAL else f"cycle_{order.cycle:02d}")


def wait(oracle: Oracle, dataset: SegmentationFolder, order: Purchase) -> str:
    """Run the command once more; it must go on waiting. Returns what it says."""
    with pytest.raises(AwaitingLabels) as caught:
        oracle.reveal(dataset, order)
    return str(caught.value)


def save(path: Path, values: list[list[int]] | np.ndarray, mode: str = "L") -> None:
    """Write a mask of ids."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values, np.uint8))
    if mode == "P":
        image = image.convert("P")
        image.putpalette([v % 256 for v in range(768)])
    image.save(path)


def cost_of(order: Purchase) -> dict[str, float]:
    """What a purchase cost."""
    return json.loads((order.folder / "cost.json").read_text())
