"""`shapes`: a small generated detection benchmark on which choosing well can matter, in VOC layout.

Most pool images are near copies of a few easy scenes with frequent classes; the rare classes live in the crowded,
small, faint and occluded rest. Val and test hold fewer easy scenes, so a labeling budget spent on copies is wasted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from al_lab.data.datasets.voc_folder import VOCFolder
from al_lab.data.generated.shapes_draw import CLASSES, VERSION, Scene, draw_scene
from al_lab.data.generated.write_once import generate_once


class Shapes(VOCFolder):
    """The generated dataset; it is written below ``data_dir`` when it is first asked for."""

    def __init__(
        self,
        data_dir: str,
        num_pool: int = 1200,
        num_val: int = 100,
        num_test: int = 250,
        size_px: int = 96,
        data_seed: int = 0,
        metrics: Sequence[str] | None = None,
        name: str = "shapes",
    ) -> None:
        """Generate if need be, then open.

        Args:
            data_dir: folder for generated data; the images go to ``shapes-<hash of the other arguments>`` in it.
            num_pool: pool images.
            num_val: labeled images outside the pool.
            num_test: test images.
            size_px: side of the square images.
            data_seed: of the generator; another number is another dataset.
            metrics: what evaluation computes, the main one first.
            name: of the dataset.
        """
        counts = {"train": num_pool, "val": num_val, "test": num_test}
        root = generate(Path(data_dir).expanduser(), counts, size_px, data_seed)
        splits: dict[str, Any] = {"pool_split": "train", "val_split": "val", "test_split": "test"}
        super().__init__(str(root), CLASSES, metrics=metrics, name=name, **splits)


def generate(data_dir: Path, counts: dict[str, int], size_px: int, data_seed: int) -> Path:
    """Write the dataset unless it is there, and return its folder."""
    params = {"version": VERSION, "counts": counts, "size_px": size_px, "seed": data_seed}
    return generate_once(data_dir, "shapes", params, lambda folder: _write(folder, counts, size_px, data_seed))


def _write(root: Path, counts: dict[str, int], size_px: int, data_seed: int) -> None:
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    number = 0
    for split, count in counts.items():
        names = []
        for n in range(count):
            number += 1
            names.append(f"{number:06d}")
            scene = draw_scene(data_seed, split, n, size_px)
            scene.image.save(root / "JPEGImages" / f"{number:06d}.jpg", quality=92, subsampling=0)
            (root / "Annotations" / f"{number:06d}.xml").write_text(_xml(f"{number:06d}.jpg", scene))
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{i}\n" for i in names))


def _xml(filename: str, scene: Scene) -> str:
    # VOC counts pixels from 1 and both corners belong to the box.
    objects = "".join(
        f"\t<object>\n\t\t<name>{o.label}</name>\n\t\t<difficult>{int(o.difficult)}</difficult>\n\t\t<bndbox>"
        f"<xmin>{o.left + 1}</xmin><ymin>{o.top + 1}</ymin><xmax>{o.right + 1}</xmax><ymax>{o.bottom + 1}</ymax>"
        "</bndbox>\n\t</object>\n"
        for o in scene.objects
    )
    width, height = scene.image.size
    return (
        f"<annotation>\n\t<folder>shapes</folder>\n\t<filename>{filename}</filename>\n\t<size><width>{width}</width>"
        f"<height>{height}</height><depth>3</depth></size>\n{objects}</annotation>\n"
    )
