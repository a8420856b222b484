"""``lut/table.json``: what came of the rows, and how much of it is noise."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.core.errors import ResumeError, explain
from al_lab.core.files import read_json
from al_lab.core.pool import Pool, ids_hash
from al_lab.strategies.detection._mgral.honesty import against_base, spread_against_noise


def row_of(
    number: tuple[int, int], fold: int, batch: Sequence[str], result: Mapping[str, Any], metric: str
) -> dict[str, Any]:
    """Return what the table keeps of a training: of which row and seed, on which images, and what it reached."""
    return {
        "number": number[0],
        "seed": number[1],
        "fold": fold,
        "ids": list(batch),
        "ids_hash": ids_hash(batch),
        "value": float(result["metrics"][metric]),
        "per_class": result["per_class"],
        "seconds": result["seconds"],
        **{key: result[key] for key in ("diverged", "rung", "stopped") if key in result},
    }


def rewards(table: Mapping[str, Any]) -> np.ndarray:
    """Return the reward of each row (first seeds), (M,): its metric, with the differences between folds taken out."""
    return np.array([reward_of(row, table["references"]) for row in table["rows"] if row["seed"] == 0])


def reward_of(row: Mapping[str, Any], references: Sequence[float]) -> float:
    """Return the metric of a row, with its fold's difference to the others taken out."""
    return float(row["value"] - references[row["fold"]] + np.mean(references))


def load_table(path: Path, pool: Pool, split: str) -> dict[str, Any]:
    """Read a table and refuse rows that belong to another labeled set or were measured on other images.

    Raises:
        ResumeError: naming what differs.
    """
    table: dict[str, Any] = read_json(path)
    for name, expected in (("labeled_hash", pool.labeled_hash()), ("split", split)):
        if table[name] != expected:
            raise ResumeError(
                explain(
                    expected=f"rows with {name} {expected}",
                    got=str(table[name]),
                    where=str(path),
                    do="delete the folder lut of this cycle: its rows belong to other labels",
                )
            )
    return table


def signal_and_noise(table: Mapping[str, Any]) -> dict[str, Any]:
    """Compare the spread between rows with the spread between seeds of the same row, in points.

    See `spread_against_noise`.
    """
    repeated: dict[int, list[float]] = {}
    for row in table["rows"]:
        repeated.setdefault(row["number"], []).append(100 * row["value"])
    return against_base(
        100 * rewards(table),
        100 * float(np.mean(table["references"])),
        spread_against_noise(100 * rewards(table), repeated),
    )


def node_hash(node: Mapping[str, Any]) -> str:
    """Return what tells a configuration node from others, 16 hex digits."""
    return hashlib.sha256(json.dumps(node, sort_keys=True, default=str).encode()).hexdigest()[:16]
