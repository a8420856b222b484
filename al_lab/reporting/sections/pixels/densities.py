"""What estimated densities are worth: on the last model, and at each query on the model that bought."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from al_lab.reporting.document.tables import Table
from al_lab.reporting.judge.protocol import Series
from al_lab.reporting.read.analysis import Analysis
from al_lab.reporting.read.run_folder import number_of

_SAME_MODEL = (("δ", "radius"), ("max δₛ(k)", "largest_radial"), ("mean distance", "mean_distance"))
_SAME_MODEL_NOTE = (
    "What k-center and density-aware greedy would buy first in an analyzed image (as many pixels as were bought, "
    "at most 512, "
    "of the 20 times as many of smallest margin), both on the last model of the line, so that only the divisor "
    "differs. Rank of "
    "densities: rank correlation of 1/d with how far away the nearest 1 % of an image's features are; 1 says that "
    "densities have "
    "the true order."
)
_AT_QUERY = ("density_rank", "density_ratio", "radial", "radial_k_center", "mean_distance", "mean_distance_k_center")
_AT_QUERY_NOTE = (
    "Measured while each query was made, on its model and on the images of the analysis; means over images and seeds. "
    "Rank: as above. Ratio: of the 90 % to the 10 % quantile of an image's densities; near 1 the choice is k-center's. "
    "max δₛ(k) and the mean distance are of 4,096 pixels of an image to all that is bought with this query, by its own "
    "choice and had k-center chosen among the same candidates. Where k-center's are smaller, al-lab tune-density looks "
    "for densities that lower them."
)
DENSITIES = (
    "Estimated densities of the images with maps, as the strategy makes them of reconstruction errors. If nearly all "
    "are alike, the choice is that of k-center: strategy.scale=relative spreads them."
)


def same_model_table(lines: Sequence[Series], found: Mapping[str, Sequence[Analysis]]) -> list[Table]:
    """Return both greedy selections on each line's last model, means over images and seeds.

    Nothing if no run has densities.
    """
    rows: list[list[Any]] = []
    for series in lines:
        images = [row for a in found[series.label] for row in a.covered if "one_purchase" in row]
        if not images:
            continue
        pairs = [
            float(np.mean([row["one_purchase"][who][key] for row in images]))
            for _, key in _SAME_MODEL
            for who in ("k_center", "density")
        ]
        ranks = [row["neighbor_rank"] for row in images if row["neighbor_rank"] is not None]
        rows.append([series.label, *pairs, float(np.mean(ranks)) if ranks else math.nan])
    columns = [
        "model of",
        *(f"{name}, {who}" for name, _ in _SAME_MODEL for who in ("k-center", "density")),
        "rank of densities",
    ]
    return (
        [
            Table(
                "same_model", "Both greedy selections on the same model", columns, rows, digits=3, note=_SAME_MODEL_NOTE
            )
        ]
        if rows
        else []
    )


def query_table(lines: Sequence[Series]) -> list[Table]:
    """Return what was measured at each query; nothing if no strategy judges its densities."""
    rows: list[list[Any]] = []
    for series in lines:
        measured: dict[int, list[Mapping[str, Any]]] = {}
        for run in series.runs:
            for entry in run.ledger:
                scalars, cycle = entry.get("scalars"), entry.get("cycle")
                if entry.get("stage") != "score" or not isinstance(cycle, int):
                    continue
                if isinstance(scalars, Mapping) and "radial" in scalars:
                    measured.setdefault(cycle, []).append(scalars)
        for cycle, found in sorted(measured.items()):
            values = [[number_of(scalars.get(key)) for scalars in found] for key in _AT_QUERY]
            known = [np.asarray(v)[np.isfinite(v)] for v in values]
            rows.append([series.label, cycle, *(float(v.mean()) if len(v) else math.nan for v in known)])
    columns = ["strategy", "query of cycle", "rank of densities", "ratio", "max δₛ(k)", "k-center's", "mean distance"]
    if not rows:
        return []
    return [
        Table(
            "densities_at_queries",
            "Densities at each query",
            [*columns, "k-center's mean"],
            rows,
            digits=3,
            note=_AT_QUERY_NOTE,
        )
    ]


def densities_of(analysis: Analysis) -> np.ndarray:
    """Return the densities of the images with maps, one after the other; empty where there are none."""
    maps = [analysis.array(f"density_{k}") for k in range(len(analysis.facts.get("maps", ())))]
    values = np.concatenate([d.reshape(-1) for d in maps if d is not None] or [np.zeros(0)])
    return values[np.isfinite(values) & (values > 0)]
