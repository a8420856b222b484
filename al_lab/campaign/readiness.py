"""Before people are asked: everything that a campaign will need after they have answered.

A simulated oracle answers in seconds, and what is missing may be found on the way. People's hours are not spent on a
campaign that can't use them.
"""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from al_lab.campaign.assemble import trains_here
from al_lab.campaign.forecast import disk_bytes
from al_lab.config.parts import Parts
from al_lab.core.budget import Budget
from al_lab.core.disk import MEGABYTE, disk_error
from al_lab.core.errors import DataError, LabError, explain
from al_lab.data.bought_test import with_test

log = logging.getLogger(__name__)

_NUM_CLASSES = 2  # where the config names none
_ROOM_BYTES = 100 * MEGABYTE  # for all else: scores, predictions, logs, report
_LOOKED_AT = 200  # images whose sizes stand for those of the pool


def check_before_asking(parts: Parts, run_dir: Path) -> None:
    """Refuse a campaign that asks people and would fail after they have answered.

    Pretrained weights are read (and downloaded, where that is how they come), every image's header and every label
    outside of the pool is read, folders are written to, the disk's free space is compared with what the run will write,
    and the oracle looks for whom it asks.

    Args:
        parts: of the campaign, checked by `check_parts`.
        run_dir: its folder, which may not exist yet.

    Raises:
        LabError: for the first thing that is missing.
    """
    oracle = parts.oracle
    if oracle.needs_truth:
        return
    log.info("people will be asked: weights, images, labels of the test set, folders and disk are checked first")
    _check_files(with_test(parts.dataset, parts.config), parts.budget)
    for folder in _written(parts, run_dir):
        _check_writable(folder)
    weights = _network_bytes(parts) if trains_here(parts.config) else 0
    _check_room(parts, run_dir, weights)
    oracle.check(parts.dataset)


def _check_files(dataset: Any, budget: Budget) -> None:
    """Read every image's header, and every label that is no secret of the pool."""
    for split, ids in dataset.splits().items():
        for sample_id in ids:
            try:
                dataset.size_hw(sample_id)
            except DataError:
                if split != "pool" or "unreadable" not in budget.leave_out:
                    raise
    measured = [i for i in (*dataset.val_ids, *dataset.test_ids) if dataset.has_truth(i)]
    for sample_id in measured:
        dataset.truth(sample_id)
    if not budget.test and not any(dataset.has_truth(i) for i in dataset.test_ids):
        log.warning(
            "%s has no labeled test set: no metric will say whether the labels were worth it "
            "(budget.test=100 has a hundred random images labeled first)",
            dataset.name,
        )


def _written(parts: Parts, run_dir: Path) -> Iterator[Path]:
    yield run_dir
    folder = getattr(parts.oracle, "folder", None)
    if isinstance(folder, Path):
        yield folder
    for key in ("data_dir", "cache_dir"):
        if value := parts.config["runtime"].get(key):
            yield Path(value).expanduser()


def _check_writable(folder: Path) -> None:
    """Write a file into the folder, or into the nearest one above it that exists."""
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as stream:
            stream.write(b"al_lab")
    except OSError as error:
        raise disk_error(error, there) from error


def _network_bytes(parts: Parts) -> int:
    """Build the network as the first training will, pretrained weights included; return the size of its weights.

    Raises:
        LabError: if it can't be built, or its weights can't be had or don't fit.
    """
    import torch  # noqa: PLC0415 - for what is refused above, it need not be imported

    kind = "detector" if parts.config.get("detector") else "segmenter"
    classes = len(parts.config["dataset"].get("classes") or parts.dataset.classes) or _NUM_CLASSES
    if not parts.config[kind]["_target_"].startswith("al_lab.models."):
        return 0  # from elsewhere: it may need what only its own training has
    with torch.random.fork_rng(devices=[]):
        network = parts.build(kind, num_classes=classes)
    return sum(p.numel() * p.element_size() for p in network.parameters())


def _check_room(parts: Parts, run_dir: Path, weights: int) -> None:
    """Compare the free space with the models of all cycles, a training under way and the images that are handed out."""
    budget, dataset = parts.budget, parts.dataset
    models = disk_bytes(parts, weights)
    asked = budget.test + (budget.initial_images(len(dataset.pool_ids)) or 0)
    if budget.unit == "image":
        asked += sum(budget.allowance(c, len(dataset.pool_ids)).amount for c in range(budget.cycles))
    some = dataset.pool_ids[:_LOOKED_AT]
    image = sum(dataset.image_path(i).stat().st_size for i in some) / len(some)
    needed = models + asked * image + _ROOM_BYTES
    there = next(p for p in (run_dir, *run_dir.absolute().parents) if p.exists())
    free = shutil.disk_usage(there).free
    if free >= needed and (not (stat := os.statvfs(there)).f_files or stat.f_favail):
        return
    got = f"{free / MEGABYTE:,.0f} MB" if free < needed else "no room for more files (all inodes are used)"
    expected = f"about {needed / MEGABYTE:,.0f} MB of free disk for {budget.cycles + 1} models and {asked} images"
    do = "free some space, or choose another disk: runtime.outputs_dir=…"
    raise LabError(explain(expected=expected, got=got, where=str(there), do=do))
