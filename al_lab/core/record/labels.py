"""The labels a run has bought. Training reads labels from here and nowhere else."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from al_lab.core.errors import DataError, ResumeError, explain
from al_lab.core.files import sha256
from al_lab.core.pool import INITIAL, file_stem, load_mask, purchase_dir
from al_lab.core.types import Annotation


def _purchases(run_dir: Path, before_cycle: int | None) -> Iterator[Path]:
    """Yield the folders of the purchases made before a cycle (all of them with None), oldest first."""
    last = (
        before_cycle
        if before_cycle is not None
        else 1 + max((int(p.name[6:]) for p in run_dir.glob("cycle_*") if p.name[6:].isdigit()), default=INITIAL)
    )
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
                raise ResumeError(
                    explain(
                        expected="one annotated image a line",
                        got=f"line {number}: {error}",
                        where=str(path),
                        do="restore the file, or start anew with restart=again",
                    )
                ) from error
    missing = [i for i in ids if i not in found]
    if missing:
        raise ResumeError(
            explain(
                expected="the labels of every bought image",
                got=f"none of {missing[0]!r} (and {len(missing) - 1} more)",
                where=str(run_dir),
                do="restore the labels.jsonl files, or start anew with restart=again",
            )
        )
    return {i: found[i] for i in ids}


def read_pixel_labels(run_dir: Path, sample_id: str, before_cycle: int, void: int = 255) -> np.ndarray:
    """Return the (H, W) uint8 label map of an image: classes where bought before a cycle, ``void`` elsewhere.

    A bought pixel may be ``void`` too, where the truth has no class; `read_bought_pixels` tells the two apart.
    """
    return read_bought_pixels(run_dir, sample_id, before_cycle, void)[0]


def read_bought_pixels(
    run_dir: Path, sample_id: str, before_cycle: int, void: int = 255
) -> tuple[np.ndarray, np.ndarray]:
    """Return the label map of `read_pixel_labels` and the (H, W) bool mask of the pixels that were paid for."""
    out: tuple[np.ndarray, np.ndarray] | None = None
    for mask_path, labels_path in _pixel_files(run_dir, sample_id, before_cycle):
        mask = load_mask(mask_path)
        labels, bought = out = (np.full(mask.shape, void, np.uint8), np.zeros(mask.shape, bool)) if out is None else out
        with np.load(labels_path, allow_pickle=False) as z:
            labels[mask] = z["labels"]
        bought |= mask
    if out is None:
        raise ResumeError(
            explain(
                expected=f"bought pixels of {sample_id!r}",
                got="none",
                where=str(run_dir),
                do="ask for labeled samples only",
            )
        )
    return out


def pixel_labels_hash(run_dir: Path, ids: Sequence[str], before_cycle: int) -> str:
    """Return a hash of the pixel labels bought in these images before a cycle; the files are read, not decoded."""
    digest = hashlib.sha256()
    for sample_id in ids:
        for path in (p for pair in _pixel_files(run_dir, sample_id, before_cycle) for p in pair):
            digest.update(f"{sample_id}\n{sha256(path)}\n".encode())
    return digest.hexdigest()


def _pixel_files(run_dir: Path, sample_id: str, before_cycle: int) -> Iterator[tuple[Path, Path]]:
    """Yield mask and labels of each purchase that had pixels of an image, oldest first."""
    name = f"{file_stem(sample_id)}.npz"
    for folder in _purchases(run_dir, before_cycle):
        if (folder / "pixel_labels" / name).is_file():
            yield folder / "masks" / name, folder / "pixel_labels" / name
