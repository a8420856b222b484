"""The files of a purchase: what was asked for, and what came back."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.core.budget import Allowance
from al_lab.core.errors import ResumeError, explain
from al_lab.core.files import atomic_path, read_json, sha256, write_json, write_text
from al_lab.core.pool import INITIAL, file_stem, load_region, purchase_dir, save_region
from al_lab.core.types import Annotation, Query


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
        ResumeError: if a mask is missing or is not the one that was written.
    """
    return tuple(query_from_row(row, folder) for row in read_json(folder / "queries.json")["queries"])


def query_from_row(row: Mapping[str, Any], folder: Path) -> Query:
    """Rebuild one query; its mask's path is relative to ``folder``."""
    region = None
    if row.get("mask"):
        path = folder / row["mask"]
        if not path.is_file() or sha256(path) != row["sha256"]:
            raise ResumeError(
                explain(
                    expected=f"the mask of {row['id']!r} as it was written",
                    got="another or none",
                    where=str(path),
                    do="restore the file, or start anew with restart=again",
                )
            )
        region = load_region(path)
    return Query(row["id"], region, float(row["utility"]))


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
    write_json(run_dir / "selections.json", {"purchases": purchases})
