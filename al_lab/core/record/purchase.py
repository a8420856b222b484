"""The files of a purchase: what was asked for, and what came back."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.core.budget import Allowance
from al_lab.core.documents import Entry, Source
from al_lab.core.errors import ResumeError, explain
from al_lab.core.fields import number, optional, path_below, shown, text
from al_lab.core.files import atomic_path, read_json, sha256, write_json, write_text
from al_lab.core.pool import INITIAL, file_stem, load_region, purchase_dir, save_region
from al_lab.core.types import Annotation, Query

_DO = "restore the file, or start anew with restart=again"


@dataclass(frozen=True)
class Purchase:
    """One order to the oracle.

    Attributes:
        run_dir: the campaign's folder.
        cycle: at whose end it is made; `INITIAL` for the initial set.
        queries: in rank order, the most wanted first.
        allowance: what may be spent.
        predictions: what the current model finds in the queried images (see `al_lab.core.record.predictions`), or None.
    """

    run_dir: Path
    cycle: int
    queries: tuple[Query, ...]
    allowance: Allowance
    predictions: Path | None = None

    @property
    def folder(self) -> Path:
        """Where the purchase's files are."""
        return purchase_dir(self.run_dir, self.cycle)


def write_queries(folder: Path, queries: Sequence[Query], allowance: Allowance, paths: Mapping[str, str]) -> None:
    """Write ``queries.json`` and, for pixels, one packed mask an image beside it.

    Args:
        folder: the purchase's folder.
        queries: in rank order.
        allowance: what they were chosen under.
        paths: sample id -> path of the image, for people and reports.
    """
    rows = []
    for query in queries:
        row: dict[str, Any] = {"id": query.sample_id, "utility": query.utility, "image": paths.get(query.sample_id)}
        if query.region is not None:
            mask = folder / "masks" / f"{file_stem(query.sample_id)}.npz"
            save_region(mask, query.region)
            row |= {"pixels": len(query.region), "mask": f"masks/{mask.name}", "sha256": sha256(mask)}
        rows.append(row)
    write_json(
        folder / "queries.json",
        {
            "unit": allowance.unit,
            "amount": allowance.amount if allowance.share is None else allowance.share,
            "per_image": allowance.per_image,
            "num_queries": len(rows),
            "queries": rows,
        },
    )


def read_queries(folder: Path) -> tuple[Query, ...]:
    """Read what `write_queries` wrote.

    Raises:
        ResumeError: if a row makes no sense, or a mask is missing or is not the one that was written.
    """
    document = Source(folder / "queries.json", "the queries of a purchase", _DO, ResumeError).read_entry()
    return tuple(row.query(folder) for row in read_rows(document))


@dataclass(frozen=True)
class QueryRow:
    """One query as ``queries.json`` and ``selections.json`` have it.

    Attributes:
        sample_id: the image.
        utility: it had.
        mask: the file of the pixels that were asked for, relative to the JSON file; None: the whole image.
        digest: that file's sha256.
    """

    sample_id: str
    utility: float
    mask: str | None = None
    digest: str | None = None

    @classmethod
    def of(cls, entry: Entry) -> "QueryRow":
        """Read one row."""
        mask = entry.read("mask", optional(path_below), None)
        digest = entry.read("sha256", text) if mask else None
        return cls(entry.read("id", text), entry.read("utility", number), mask, digest)

    def query(self, folder: Path) -> Query:
        """Return the query, with its mask read from below ``folder``.

        Raises:
            ResumeError: if the mask is missing or is not the one that was written.
        """
        if self.mask is None:
            return Query(self.sample_id, None, self.utility)
        path = folder / self.mask
        if not path.is_file() or sha256(path) != self.digest:
            raise ResumeError(
                explain(
                    expected=f"the mask of {self.sample_id!r} as it was written",
                    got="another or none",
                    where=str(path),
                    do=_DO,
                )
            )
        return Query(self.sample_id, load_region(path), self.utility)


def read_rows(document: Entry) -> list[QueryRow]:
    """Read the queries of one purchase; the masks are not opened.

    Raises:
        LabError: of the document's kind, naming the row and the field that makes no sense.
    """
    rows, seen = [], set()
    for entry in document.entries("queries"):
        row = QueryRow.of(entry)
        if row.sample_id in seen:
            raise entry.wrong("id", "each sample once", f"{shown(row.sample_id)} twice")
        seen.add(row.sample_id)
        rows.append(row)
    return rows


def write_labels(folder: Path, annotations: Mapping[str, Annotation]) -> None:
    """Write the objects that were bought, one line an image."""
    lines = (json.dumps({"id": i, "annotation": a.to_json()}) for i, a in annotations.items())
    write_text(folder / "labels.jsonl", "".join(f"{line}\n" for line in lines))


def write_pixel_labels(folder: Path, sample_id: str, labels: np.ndarray) -> None:
    """Write the classes of an image's bought pixels, (n,) uint8 in the order of the mask's pixels; 255 is void."""
    with (
        atomic_path(folder / "pixel_labels" / f"{file_stem(sample_id)}.npz") as temporary,
        temporary.open("wb") as stream,
    ):
        np.savez_compressed(stream, labels=labels.astype(np.uint8))


def pixel_files(folder: Path, kinds: Sequence[str] = ("masks", "pixel_labels")) -> list[Path]:
    """Return the masks, then the label files, that a purchase of pixels has, in the order of its queries."""
    names = [f"{file_stem(row['id'])}.npz" for row in read_json(folder / "queries.json")["queries"]]
    return [path for kind in kinds for n in names if (path := folder / kind / n).is_file()]


def publish_selections(run_dir: Path, cycles: Iterable[int]) -> None:
    """Write ``selections.json``, the list `strategy=replay` buys again: everything asked for so far, in order."""
    purchases = []
    for cycle in (INITIAL, *cycles):
        folder = purchase_dir(run_dir, cycle)
        if (folder / "queries.json").is_file():
            rows = read_json(folder / "queries.json")["queries"]
            for row in rows:
                row.pop("image", None)  # a path of this machine; the list is for others
                if "mask" in row:
                    row["mask"] = f"{folder.name}/{row['mask']}"
            purchases.append({"cycle": cycle, "queries": rows})
    path, text = run_dir / "selections.json", json.dumps({"purchases": purchases}, indent=1) + "\n"
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)
