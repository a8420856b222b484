"""`streets`: a small generated pair of domains for segmentation, in the layout of `segmentation_folder`.

The source is flat and clean, the target looks photographed (see `streets_draw`): a model of the source alone does badly
on the target, and poles, signs and persons are a few pixels each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from al_lab.core.errors import DataError, explain
from al_lab.data.datasets.segmentation_folder import SegmentationFolder
from al_lab.data.generated.streets_draw import CLASSES, VERSION, DomainName, draw_street
from al_lab.data.generated.write_once import generate_once
from al_lab.data.transforms.dense import VOID

_COLORS = (
    (70, 130, 180),
    (70, 70, 70),
    (128, 64, 128),
    (244, 35, 232),
    (0, 0, 142),
    (153, 153, 153),
    (220, 220, 0),
    (220, 20, 60),
)


class Streets(SegmentationFolder):
    """The generated pair; it is written below ``data_dir`` when it is first asked for."""

    def __init__(
        self,
        data_dir: str,
        source: str | None = "flat",
        num_source: int = 120,
        num_pool: int = 120,
        num_test: int = 40,
        size_hw: Sequence[int] = (96, 160),
        data_seed: int = 0,
        metrics: Sequence[str] | None = None,
        flip_test: bool = True,
        name: str = "streets",
        segments: Mapping[str, Any] | None = None,
    ) -> None:
        """Generate if need be, then open.

        Args:
            data_dir: folder for generated data; it goes to ``streets-<hash of the other numbers>`` in it.
            source: "flat", the drawn domain; None: source-free, no file of it is opened.
            num_source: labeled source images.
            num_pool: target images of which pixels may be bought.
            num_test: target images for evaluation.
            size_hw: height and width of all images.
            data_seed: of the generator; another number is another dataset.
            metrics: what evaluation computes, the main one first.
            flip_test: evaluation averages image and flipped image.
            name: of the dataset.
            segments: how images are cut into segments, see `SegmentSettings`.

        Raises:
            DataError: for another source.
        """
        if source not in ("flat", None):
            raise DataError(
                explain(expected="flat, or null for none", got=repr(source), where="dataset.source", do="correct it")
            )
        counts = {"source": {"train": num_source}, "target": {"train": num_pool, "test": num_test}}
        root = generate(Path(data_dir).expanduser(), counts, (int(size_hw[0]), int(size_hw[1])), data_seed)
        super().__init__(
            str(root / "target"),
            str(root / "source") if source else None,
            metrics=metrics,
            flip_test=flip_test,
            name=name,
            segments=segments,
        )


def generate(data_dir: Path, counts: dict[str, dict[str, int]], size_hw: tuple[int, int], data_seed: int) -> Path:
    """Write both domains unless they are there, and return their folder."""
    params = {"version": VERSION, "counts": counts, "size_hw": list(size_hw), "seed": data_seed}

    def write(root: Path) -> None:
        _write(root / "source", "source", counts["source"], size_hw, data_seed)
        _write(root / "target", "target", counts["target"], size_hw, data_seed)

    return generate_once(data_dir, "streets", params, write)


def _write(root: Path, domain: DomainName, counts: dict[str, int], size_hw: tuple[int, int], data_seed: int) -> None:
    for split, count in counts.items():
        for folder in ("images", "labels"):
            (root / folder / split).mkdir(parents=True)
        for n in range(count):
            street = draw_street(data_seed, domain, split, n, size_hw)
            Image.fromarray(street.image).save(root / "images" / split / f"{n:05d}.png")
            label = Image.fromarray(street.label, mode="P")
            label.putpalette(_palette())  # colors for people who look at it; the indices are the classes
            label.save(root / "labels" / split / f"{n:05d}.png")
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")


def _palette() -> list[int]:
    colors = np.zeros((VOID + 1, 3), np.uint8)
    colors[: len(_COLORS)] = _COLORS
    return colors.reshape(-1).tolist()
