"""Do MGRAL's rewards, made without labels, rank batches as labels do?"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from al_lab.reporting.document.page import Picture, Section
from al_lab.reporting.document.tables import Table
from al_lab.reporting.figures import lut as lut_figures
from al_lab.reporting.read import commands
from al_lab.reporting.read.lut import LutCycle
from al_lab.reporting.read.run_folder import Run
from al_lab.reporting.sections.results import metric_label

_SWITCH = "strategy.truth.rows=8"
_NAMES = {"agent": "the agent's batch", "best row": "the table's best row"}


def truth_section(run: Run, cycles: Sequence[LutCycle]) -> Section | None:
    """Show rewards against what the same batches give with their labels, and what the choice was worth.

    None for a segmenter, of which that is not measured.
    """
    section = Section("truth", "Rewards against the truth")
    told = [c for c in cycles if c.with_labels]
    if not told and run.config.get("segmenter"):
        return None
    if not told:
        section.missing.append(
            (
                "Rewards come from what needs no labels of the pool. Whether they rank batches as labels do was "
                "not measured in this run; this measures it, after each choice and without touching it:",
                commands.changed(run, _SWITCH),
            )
        )
        return section
    last = told[-1]
    text = str(last.with_labels.get("sentence", "")).replace(" -", " −")
    section.text = f"At the query of cycle {last.cycle}, {text}." if text else ""
    for cycle in told:
        rewards, truths = _pairs(cycle.with_labels)
        if len(rewards) > 1:
            metric = metric_label(str(cycle.with_labels.get("metric")))
            section.pictures.append(
                Picture(
                    f"mgral_truth_{cycle.cycle:02d}",
                    lut_figures.with_labels(rewards, truths, f"cycle {cycle.cycle}", metric),
                    "reward of each batch against what it gives with its labels",
                    "Each point is one batch: what its training without labels gave, and what it gives with them. "
                    "Rewards that are worth following rise from left to right.",
                )
            )
    section.tables += [_correlations(told), *(_worth(c) for c in told if c.with_labels.get("against"))]
    return section


def _pairs(truth: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    rows = [b for b in truth.get("batches", ()) if b.get("reward") is not None and str(b.get("name")) != "best row"]
    return np.array([b["reward"] for b in rows], float), np.array([np.mean(b["values"]) for b in rows], float)


def _correlations(told: Sequence[LutCycle]) -> Table:
    rows: list[list] = []
    for cycle in told:
        found = cycle.with_labels.get("rank_correlation") or {}
        rows.append([cycle.cycle, *(found.get(k, math.nan) for k in ("rows", "value", "low", "high"))])
    return Table(
        "mgral_truth",
        "Do rewards rank batches as labels do?",
        ["cycle", "batches", "rank correlation", "95 % from", "to"],
        rows,
        digits=[0, 0, 2, 2, 2],
        note="Spearman's correlation of the reward of a batch (trained without its labels) with what it gives with its "
        "labels. 1: the same order, 0: no relation.",
    )


def _worth(cycle: LutCycle) -> Table:
    truth = {str(b["name"]): float(np.mean(b["values"])) for b in cycle.with_labels["batches"]}
    drawn = [value for name, value in truth.items() if name.startswith("random ")]
    random = drawn or [value for name, value in truth.items() if name.startswith("row ")]
    rows: list[list] = [[f"mean of {len(random)} random batches", float(np.mean(random)), math.nan, math.nan, ""]]
    for name, found in cycle.with_labels["against"].items():
        numbers = [found.get("difference", math.nan), found.get("standard_error", math.nan), found.get("verdict", "")]
        if name in truth:
            rows.append([_NAMES.get(name, f"what {name} would have bought"), truth[name], *numbers])
        else:
            rows.append(["the agent's batch minus the best row", math.nan, *numbers])
    return Table(
        f"mgral_worth_{cycle.cycle:02d}",
        f"What batches give with their labels, cycle {cycle.cycle}",
        ["batch", str(cycle.with_labels.get("metric")), "minus random", "± SE", "verdict"],
        rows,
        digits=2,
        note="Points. Trained as the next cycle trains, after the choice was made: nothing here was bought, and "
        "nothing here changed what was. Clear: Student's t, p below 0.05 after Holm's correction.",
    )
