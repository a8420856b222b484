"""SSD's recipe against torchvision's own transforms, and the data of a Cityscapes step with and without its cache."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from al_lab.benchmarks.gpu.setup import Photos
from al_lab.benchmarks.measure import Row
from al_lab.core.pool import INITIAL, file_stem, purchase_dir, save_region
from al_lab.core.record.purchase import write_pixel_labels
from al_lab.core.types import Annotation, Region
from al_lab.data.datasets.segmentation import SegmentationDataset
from al_lab.data.formats.masks import read_ids
from al_lab.data.loading.batch import collate
from al_lab.data.loading.byte_cache import ByteCache
from al_lab.data.loading.datamodule import TrainImages
from al_lab.data.loading.dense_batch import BoughtPixels, DenseDraw, DenseImages
from al_lab.data.loading.dense_join import dense_collate
from al_lab.data.loading.sampler import Draw
from al_lab.data.transforms.detection import InputSpec, SSDAugmentation

_SPEC = InputSpec((300, 300), (123.0, 117.0, 104.0))
_BOXES, _LABELS = np.array([[50, 60, 200, 250], [100, 20, 300, 300]], np.float32), np.array([1, 2])
_SOURCE_HW, _TARGET_HW = (720, 1280), (640, 1280)  # of the density protocol
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def _cpu_s(work: Callable[[int], Any], repeats: int) -> float:
    """Return the least CPU seconds of a call; the first, which warms up, does not count."""
    work(0)
    times = []
    for n in range(1, repeats + 1):
        start = time.process_time()
        work(n)
        times.append(time.process_time() - start)
    return min(times)


def ssd_recipe(num: int = 16, repeats: int = 5) -> Iterator[Row]:
    """Yield SSD's recipe on JPEG photographs of VOC's size: all of it, and the loader's part of it."""
    photos = Photos(num)
    boxes = dict.fromkeys(photos.pool_ids, Annotation.make(_BOXES, _LABELS))
    images = TrainImages(photos, boxes, SSDAugmentation(), _SPEC, 0)  # type: ignore[arg-type]

    def ours(n: int, packed: bool) -> Any:
        return collate([images[Draw(n, i, 0)] for i in photos.pool_ids], _SPEC, packed)

    def theirs(n: int, recipe: v2.Compose) -> Any:
        torch.manual_seed(n)
        return [recipe(*_their_sample(photos.load_image(i))) for i in photos.pool_ids]

    whole, geometry = _their_recipe(with_colors=True), _their_recipe(with_colors=False)
    ours_s, loader_s = (_cpu_s(lambda n, p=p: ours(n, p), repeats) / num for p in (False, True))  # type: ignore[misc]
    peer_s, part_s = (_cpu_s(lambda n, r=r: theirs(n, r), repeats) / num for r in (whole, geometry))  # type: ignore[misc]
    told = f"{1 / ours_s:.0f} and {1 / peer_s:.0f} images/s a core"
    yield Row(
        "SSD's recipe, an image, all on the CPU", "torchvision v2", ours_s, peer_s, peer_s / ours_s, "", None, told
    )
    told = f"{1 / loader_s:.0f} images/s a core leave the loader; v2's loader does the whole recipe"
    yield Row(
        "… what stays on it beside a GPU", "torchvision v2", loader_s, peer_s, peer_s / loader_s, ">= 5", None, told
    )
    told = "decode, expand, crop and flip on both sides; v2 makes the canvas"
    yield Row("… these operations alone", "torchvision v2", loader_s, part_s, part_s / loader_s, "", None, told)


def _their_sample(image_u8: np.ndarray) -> tuple[Any, dict[str, Any]]:
    pixels = tv_tensors.Image(torch.from_numpy(image_u8).permute(2, 0, 1))
    boxes = tv_tensors.BoundingBoxes(torch.from_numpy(_BOXES), format="XYXY", canvas_size=image_u8.shape[:2])
    return pixels, {"boxes": boxes, "labels": torch.from_numpy(_LABELS)}


def _their_recipe(with_colors: bool) -> v2.Compose:
    """Return torchvision's own recipe of SSD (references/detection/presets.py), with a resize as a loader needs it."""
    geometry = [
        v2.RandomZoomOut(fill=dict.fromkeys((tv_tensors.Image,), _SPEC.mean), p=0.5),
        v2.RandomIoUCrop(),
        v2.RandomHorizontalFlip(),
        v2.SanitizeBoundingBoxes(),
    ]
    if not with_colors:
        return v2.Compose(geometry)
    last = [
        v2.Resize(_SPEC.hw, antialias=False),
        v2.ToDtype(torch.float32),
        v2.Normalize(_SPEC.mean, _SPEC.std),
    ]
    return v2.Compose([v2.RandomPhotometricDistort(), *geometry, *last])


class _Streets(SegmentationDataset):
    """PNG files of Cityscapes' and GTAV's sizes."""

    name = "streets of full size"

    def __init__(self, folder: Path, num: int) -> None:
        self._folder = folder
        rng = np.random.default_rng(0)
        for name, (h, w) in (("p", (1024, 2048)), ("source_", (1052, 1914))):
            for n in range(num):
                coarse = rng.normal(128, 40, (-(-h // 16), -(-w // 16), 3)).repeat(16, 0).repeat(16, 1)[:h, :w]
                pixels = (coarse + rng.normal(0, 6, (h, w, 3))).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{name}{n}.png", compress_level=1)
                labels = rng.integers(0, 19, (-(-h // 32), -(-w // 32)), dtype=np.uint8).repeat(32, 0).repeat(32, 1)
                Image.fromarray(labels[:h, :w]).save(folder / f"{name}{n}_labels.png")
        ids = [f"p{n}" for n in range(num)], [f"source/{n}" for n in range(num)]
        super().__init__(self.name, [f"c{k}" for k in range(19)], ids[0], source_ids=ids[1], source_hw=_SOURCE_HW,
                         target_hw=_TARGET_HW)  # fmt: skip

    def image_path(self, sample_id: str) -> Path:
        return self._folder / f"{sample_id.replace('/', '_')}.png"

    def annotation_file(self, sample_id: str) -> Path:
        return self._folder / f"{sample_id.replace('/', '_')}_labels.png"

    def label_rule(self, sample_id: str) -> str:
        return "as they are"

    def _parse(self, sample_id: str) -> tuple[np.ndarray, tuple[str, ...]]:
        return read_ids(self.annotation_file(sample_id)), ()


def dense_step(num: int = 4, repeats: int = 3) -> Iterator[Row]:
    """Yield the data of a step of two GTAV and two Cityscapes images; of the latter 2.2 % of the pixels are bought."""
    with tempfile.TemporaryDirectory(prefix="streets_") as name:
        folder = Path(name)
        data = _Streets(folder, num)
        bought = _bought(data, folder / "run")
        network = SimpleNamespace(mean=_MEAN, std=_STD)
        cached = DenseImages(data, bought, ByteCache(folder / "pixels", 1))

        def step(images: DenseImages, n: int, packed: bool) -> Any:
            ids = [*data.source_ids[n % 2 :: 2][:2], *data.pool_ids[n % 2 :: 2][:2]]
            items = [images[DenseDraw(i, i.startswith("source/"))] for i in ids]
            return dense_collate(items, network.mean, network.std, packed)

        for n in (0, 1):
            first, again = step(DenseImages(data, bought), n, False), step(cached, n, False)
        same = all(torch.equal(getattr(first, key), getattr(again, key)) for key in ("source_images", "target_labels"))
        peer_s = _cpu_s(lambda n: step(DenseImages(data, bought), n, True), repeats)
        loader_s, whole_s = (_cpu_s(lambda n, p=p: step(cached, n, p), repeats) for p in (True, False))  # type: ignore[misc]
        task = "the data of a Cityscapes step, 2 + 2 images"
        told = f"decoded each time; the ratio is ours in seconds (peer's / ours {peer_s / loader_s:.0f}x)"
        yield Row(f"{task}, kept", "reading them anew", loader_s, peer_s, loader_s, "<= 0.02", same, told)
        told = "where there is no GPU the loader normalizes, too"
        yield Row("… normalized on the CPU", "reading them anew", whole_s, peer_s, peer_s / whole_s, "", same, told)


def _bought(data: _Streets, run_dir: Path) -> BoughtPixels:
    rng, folder, num_px = np.random.default_rng(0), purchase_dir(run_dir, INITIAL), 1024 * 2048
    for sample_id in data.pool_ids:
        region = Region(np.sort(rng.choice(num_px, int(0.022 * num_px), replace=False)), (1024, 2048))
        save_region(folder / "masks" / f"{file_stem(sample_id)}.npz", region)
        write_pixel_labels(folder, sample_id, data._parse(sample_id)[0].reshape(-1)[region.pixels])
    return BoughtPixels(run_dir, data.pool_ids, 1)


def run(full: bool = False) -> Iterator[Row]:
    """Yield the rows; everything on one thread, in CPU seconds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield from ssd_recipe(64 if full else 16)
        yield from dense_step()
    finally:
        torch.set_num_threads(threads)
