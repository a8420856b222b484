"""A person's own photographs in COCO layout, labeled or not."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from al_lab.core.errors import DataError, did_you_mean, explain
from al_lab.data.datasets.coco import COCOLayout, COCOSplit
from al_lab.data.datasets.dataset import folder_name
from al_lab.data.formats.boxes import Outside
from al_lab.data.formats.coco import load_coco
from al_lab.data.formats.layout import find_annotations, index_images
from al_lab.data.formats.splits import ABSENT
from al_lab.data.grouping import Grouping, automatic_test

log = logging.getLogger(__name__)


class COCOFolder(COCOLayout):
    """Images with (some, all or no) COCO annotation files.

    A file of ``annotations/`` whose name contains "train" is the pool, "test" the test set and "val" stays outside the
    pool; with train and val alone, val is the test set. One file alone is the pool, and ``test_fraction`` of its images
    become the test set. Images in the pool's folder that no file names join the pool unlabeled; without any annotation
    file all images are the unlabeled pool.
    """

    def __init__(
        self,
        root: str,
        classes: Sequence[str] | None = None,
        pool_json: str | None = None,
        val_json: str | None = None,
        test_json: str | None = None,
        image_dir: str | None = None,
        test_fraction: float = 0.2,
        outside: Outside = "error",
        cache_dir: str | None = None,
        metrics: Sequence[str] | None = None,
        name: str | None = None,
        group_by: str | None = None,
        min_gap: int | str | None = None,
    ) -> None:
        """Index the folder.

        Args:
            root: the folder.
            classes: names in label order; None takes the annotation files' categories.
            pool_json: annotation file of the pool, relative to root; None chooses as said above.
            val_json: the same for labeled images outside the pool; "none" for no such images.
            test_json: the same for the test set; "none" for no test set.
            image_dir: where images lie, relative to root; None looks in the usual places.
            test_fraction: of the images of a single annotation file.
            outside: "error" or "clip", for boxes that leave the image.
            cache_dir: keeps parsed annotation files; None: no cache.
            metrics: what evaluation computes, the main one first.
            name: of the dataset; None takes the root's name.
            group_by: images of one group (video, patient, camera) have one role: a regular expression, see `Grouping`.
            min_gap: how far apart the numbers of a group's images in one purchase are; "group": one image of a group.

        Raises:
            DataError: if there are no images, no class names, or a file names an image that is missing.
        """
        base = Path(root).expanduser()
        self.grouping = Grouping.of(group_by, min_gap)
        if not base.is_dir():
            raise DataError(
                explain(expected="a folder", got="none", where=f"dataset.root={base}", do="correct the path")
            )
        files = _choose_files(base, {"pool": pool_json, "val": val_json, "test": test_json})
        cache = Path(cache_dir) if cache_dir else None
        parts = {split: _open(base, file, image_dir, cache) for split, file in files.items()}
        splits: dict[str, Sequence[str]] = {split: part.ids for split, part in parts.items()}
        if set(parts) == {"pool"} and test_json != ABSENT:
            splits["test"] = automatic_test(parts["pool"].ids, test_fraction, self.grouping)
            splits["pool"] = sorted(set(parts["pool"].ids) - set(splits["test"]))
        bare = _unnamed_images(base, parts, image_dir)
        splits["pool"] = [*splits.get("pool", ()), *bare]
        names = tuple(classes) if classes else next((p.index.classes for p in parts.values()), ())
        label = name or folder_name(root)
        super().__init__(label, names, tuple(parts.values()), splits, outside, metrics, bare)
        log.info(
            "%s: pool %d (%d in no annotation file), val %d, test %d (%s)",
            label,
            len(self.pool_ids),
            len(bare),
            # fmt: skip
            len(self.val_ids),
            len(self.test_ids),
            {k: str(v.relative_to(base)) for k, v in files.items()},
        )


def _choose_files(base: Path, wanted: dict[str, str | None]) -> dict[str, Path]:
    chosen = {split: base / file for split, file in wanted.items() if file not in (None, ABSENT)}
    usual = sorted((base / "annotations").glob("*.json"))
    present = usual or find_annotations(base, {}).by_format["coco"]
    for split, path in chosen.items():
        if not path.is_file():
            raise DataError(
                explain(
                    expected="an annotation file",
                    got="no such file",
                    where=f"{path} (dataset.{split}_json)",
                    do=did_you_mean(path.name, [p.name for p in present]),
                )
            )
    free = [p for p in present if p not in chosen.values()]
    for split, word in (("pool", "train"), ("test", "test"), ("val", "val")):
        matching = [p for p in free if word in (p.stem if usual else str(p.relative_to(base))).lower()]
        if split in chosen or wanted[split] == ABSENT or not matching:
            continue
        if len(matching) > 1:
            raise DataError(
                explain(
                    expected=f"one annotation file for {split}",
                    got=", ".join(p.name for p in matching),
                    where=str(base / "annotations"),
                    do=f"name one with dataset.{split}_json=annotations/…",
                )
            )
        chosen[split] = matching[0]
        free.remove(matching[0])
    if "pool" not in chosen and len(free) == 1:
        chosen["pool"] = free[0]
    if "val" in chosen and "test" not in chosen and wanted["test"] is None and wanted["val"] is None:
        chosen["test"] = chosen.pop("val")
    return chosen


def _open(base: Path, file: Path, image_dir: str | None, cache_dir: Path | None) -> COCOSplit:
    index = load_coco(file, cache_dir)
    split = file.stem.removeprefix("instances_").removeprefix("person_keypoints_")
    folders = (
        [base / image_dir] if image_dir else [base / split, base / "images" / split, base / "images", file.parent, base]
    )
    for folder in folders:
        if any((folder / str(name)).is_file() for name in index.file_names[:1]) or not len(index.file_names):
            break
    missing = [str(name) for name in index.file_names if not (folder / str(name)).is_file()]
    if missing:
        raise DataError(
            explain(
                expected=f"the {len(index.file_names)} images that {file.name} names",
                got=f"{len(missing)} missing, first {missing[0]!r}",
                where=", ".join(str(f) for f in folders),
                do="restore them, or say where images lie with dataset.image_dir=…",
            )
        )
    prefix = folder.relative_to(base).as_posix()
    return COCOSplit.of(index, folder, "" if prefix == "." else prefix)


def _unnamed_images(base: Path, parts: dict[str, COCOSplit], image_dir: str | None) -> dict[str, Path]:
    folder = parts["pool"].image_dir if "pool" in parts else base / (image_dir or "")
    if not folder.is_dir():
        raise DataError(
            explain(expected="a folder of images", got="none", where=str(folder), do="correct dataset.image_dir")
        )
    prefix = folder.relative_to(base).as_posix()
    named = {i for part in parts.values() for i in part.ids}
    named_files = {part.image_dir / str(n) for part in parts.values() for n in part.index.file_names}
    found = index_images(folder)
    ids = {(f"{prefix}/{i}" if prefix != "." else i): path for i, path in found.items()}
    return {i: path for i, path in ids.items() if i not in named and path not in named_files}
