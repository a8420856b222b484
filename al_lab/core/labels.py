"""The labels a run has bought. Training reads labels from here and nowhere else."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from al_lab.core.errors import DataError, ResumeError, explain
from al_lab.core.pool import INITIAL, file_stem, load_region, purchase_dir
from al_lab.core.types import Annotation


def _purchases(run_dir: Path, before_cycle: int | None) -> Iterator[Path]:
    """Yield the folders of the purchases made before a cycle (all of them with None), oldest first."""
    last = before_cycle if before_cycle is not None else 1 + max(
        (int(p.name[6:]) for p in run_dir.glob("cycle_*") if p.name[6:].isdigit()), default=INITIAL)
    yield from (purchase_dir(run_dir, c) for c in range(INITIAL, last))


def read_labels(run_dir: Path, ids: Sequence[str]) -> dict[str, Annotation]:
    """Return the objects bought in these images, in the order of ``ids``.

    Raises:
        ResumeError: if the labels of an image are missing or broken.
    """
    wanted, found = set(ids), {}
    for folder in _purchases(run_dir, None):
        path = folder / "labels.jsonl"
        for number, line in enumerate(path.read_text().splitlines() if path.is_file() else [], start=1):
            try:
                row = json.loads(line)
                if row["id"] in wanted:
                    found[row["id"]] = Annotation.from_json(row["annotation"])
            except (ValueError, KeyError, TypeError, DataError) as error:
                raise ResumeError(explain(expected="one annotated image a line", got=f"line {number}: {error}", where=str(path),
                                          do="restore the file, or start anew with restart=true")) from error
    missing = [i for i in ids if i not in found]
    if missing:
        raise ResumeError(explain(expected="the labels of every bought image", got=f"none of {missing[0]!r} (and {len(missing) - 1} more)",
                                  where=str(run_dir), do="restore the labels.jsonl files, or start anew with restart=true"))
    return {i: found[i] for i in ids}


def read_pixel_labels(run_dir: Path, sample_id: str, before_cycle: int, void: int = 255) -> np.ndarray:
    """Return the (H, W) uint8 label map of an image: classes where bought before a cycle, ``void`` elsewhere."""
    out: np.ndarray | None = None
    name = f"{file_stem(sample_id)}.npz"
    for folder in _purchases(run_dir, before_cycle):
        if not (folder / "pixel_labels" / name).is_file():
            continue
        region = load_region(folder / "masks" / name)
        out = np.full(region.size_hw, void, np.uint8) if out is None else out
        with np.load(folder / "pixel_labels" / name, allow_pickle=False) as z:
            out.reshape(-1)[region.pixels] = z["labels"]
    if out is None:
        raise ResumeError(explain(expected=f"bought pixels of {sample_id!r}", got="none", where=str(run_dir), do="ask for labeled samples only"))
    return out
