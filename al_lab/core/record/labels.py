"""The labels a run has bought. Training reads labels from here and nowhere else."""

import functools
import hashlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from al_lab.core.arrays import Column, load_arrays
from al_lab.core.documents import Entry, Source
from al_lab.core.errors import ResumeError, explain
from al_lab.core.fields import text
from al_lab.core.files import read_json, sha256
from al_lab.core.pool import INITIAL, file_stem, load_mask, purchase_dir
from al_lab.core.record.seal import seal
from al_lab.core.types import Annotation

_DO = "restore the file, or start anew with restart=again"
_PIXEL_LABELS = {"labels": Column("u", (None,))}


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
    wanted, found = set(ids), dict[str, Annotation]()
    for folder in _purchases(run_dir, None):
        path = folder / "labels.jsonl"
        if path.is_file():
            found |= read_annotations(path, wanted)
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


def read_classes(run_dir: Path, ids: Sequence[str], task: str) -> dict[str, frozenset[int]]:
    """Return the classes that bought images show, in the order of ``ids``.

    Args:
        run_dir: the run folder.
        ids: images that were bought whole.
        task: detection: classes of their objects; segmentation: of their pixels, those without a class left out.

    Raises:
        ResumeError: if the labels of an image are missing or broken.
    """
    if task == "segmentation":
        return {i: frozenset(np.unique(read_pixel_labels(run_dir, i, None)).tolist()) - {255} for i in ids}
    return {i: frozenset(a.labels.tolist()) for i, a in read_labels(run_dir, ids).items()}


def read_annotations(path: Path, wanted: Collection[str] | None = None, do: str = _DO) -> dict[str, Annotation]:
    """Read a file with one annotated image a line.

    Args:
        path: the file.
        wanted: the images whose annotations are needed; None: all.
        do: the remedy.

    Raises:
        ResumeError: naming the line and the field that makes no sense.
    """
    found = {}
    for row in Source(path, "one annotated image a line", do, ResumeError).read_rows():
        sample_id = row.read("id", text)
        if wanted is None or sample_id in wanted:
            found[sample_id] = annotation_of(sample_id, row)
    return found


def annotation_of(sample_id: str, row: Entry) -> Annotation:
    """Read the annotation of one row, and hold it against the row's digest if it has one.

    Raises:
        ResumeError: naming the field that makes no sense.
    """
    annotation = Annotation.from_json(row.entry("annotation"))
    record = {"id": sample_id, "annotation": annotation.to_json()}
    if "digest" in row and row.read("digest", text) != seal(record)["digest"]:
        raise row.wrong("annotation", "what was taken over", "another: a letter or a digit was changed")
    return annotation


def read_pixel_labels(run_dir: Path, sample_id: str, before_cycle: int | None, void: int = 255) -> np.ndarray:
    """Return the (H, W) uint8 label map of an image: classes where bought before a cycle, ``void`` elsewhere.

    With None all that was bought counts.

    A bought pixel may be ``void`` too, where the truth has no class; `read_bought_pixels` tells the two apart.
    """
    return read_bought_pixels(run_dir, sample_id, before_cycle, void)[0]


def read_bought_pixels(
    run_dir: Path, sample_id: str, before_cycle: int | None, void: int = 255
) -> tuple[np.ndarray, np.ndarray]:
    """Return the label map of `read_pixel_labels` and the (H, W) bool mask of the pixels that were paid for."""
    out: tuple[np.ndarray, np.ndarray] | None = None
    for mask_path, labels_path in _pixel_files(run_dir, sample_id, before_cycle):
        mask = load_mask(mask_path)
        labels, bought = out = (np.full(mask.shape, void, np.uint8), np.zeros(mask.shape, bool)) if out is None else out
        if mask.shape != labels.shape:
            raise _misfit(mask_path, f"a mask of {labels.shape}", f"one of {mask.shape}")
        pixels = np.flatnonzero(mask)  # few of them: several times as fast as indexing by the mask
        labels.reshape(-1)[pixels] = read_pixel_classes(labels_path, len(pixels))
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


def read_pixel_classes(path: Path, count: int) -> np.ndarray:
    """Return the classes of a purchase's pixels in one image, (n,) uint8 in the order of the mask's pixels.

    Raises:
        ResumeError: if there are not ``count`` of them.
    """
    said = load_arrays(path, _PIXEL_LABELS, compressed=True)["labels"]
    if len(said) != count:
        raise _misfit(path, f"a class for each of {count} bought pixels", str(len(said)))
    return said


def _misfit(path: Path, expected: str, got: str) -> ResumeError:
    return ResumeError(explain(expected=expected, got=got, where=str(path), do=_DO))


def pixel_labels_hash(run_dir: Path, ids: Sequence[str], before_cycle: int) -> str:
    """Return a hash of the pixel labels bought in these images before a cycle; the files are read, not decoded."""
    digest = hashlib.sha256()
    for sample_id in ids:
        for path in (p for pair in _pixel_files(run_dir, sample_id, before_cycle) for p in pair):
            digest.update(f"{sample_id}\n{sha256(path)}\n".encode())
    return digest.hexdigest()


def _pixel_files(run_dir: Path, sample_id: str, before_cycle: int | None) -> Iterator[tuple[Path, Path]]:
    """Yield mask and labels of each purchase that had pixels of an image, oldest first.

    Raises:
        ResumeError: naming a file that is missing.
    """
    name = f"{file_stem(sample_id)}.npz"
    for folder in _purchases(run_dir, before_cycle):
        pair = folder / "masks" / name, folder / "pixel_labels" / name
        missing = [path for path in pair if not path.is_file()]
        if not missing:
            yield pair
        elif len(missing) == 1 or sample_id in _bought(folder / "queries.json"):
            raise ResumeError(
                explain(
                    expected=f"the pixels of {sample_id!r} that were bought",
                    got="no such file",
                    where=str(missing[0]),
                    do="run the same command again: it is made again where the labels are known, else restore it",
                )
            )


def _bought(queries: Path) -> frozenset[str]:
    """Return the ids that a purchase asked for."""
    return _read_bought(queries, queries.stat().st_mtime_ns) if queries.is_file() else frozenset()


@functools.lru_cache(maxsize=64)  # asked for every image that a training draws
def _read_bought(queries: Path, mtime_ns: int) -> frozenset[str]:
    return frozenset(row["id"] for row in read_json(queries)["queries"])
