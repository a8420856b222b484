"""What the stage `analyze` left in a run folder, read for the report."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.reporting.read.run_folder import Run


@dataclass(frozen=True)
class Analysis:
    """What the stage `analyze` left: ``analysis.json`` and where ``analysis.npz`` is."""

    run: Run
    facts: Mapping[str, Any]
    path: Path

    @property
    def covered(self) -> list[Mapping[str, Any]]:
        """The images with a covering radius."""
        return [row for row in self.facts.get("images") or [] if "radius" in row]

    def mean(self, key: str) -> float:
        """Return the mean over images."""
        return float(np.mean([row[key] for row in self.covered])) if self.covered else math.nan

    def loss(self, key: str) -> float:
        """Return a mean loss, or the core-set loss; NaN where nobody knows the labels."""
        return float((self.facts.get("loss") or {}).get(key, math.nan))

    @property
    def fit(self) -> tuple[float, float, float] | None:
        """Slope, intercept and R^2 of the calibration on plain k-center's centers."""
        return self._fit("calibration")

    @property
    def fit_random(self) -> tuple[float, float, float] | None:
        """The same on random centers."""
        return self._fit("calibration_random")

    def _fit(self, key: str) -> tuple[float, float, float] | None:
        fit = (self.facts.get(key) or {}).get("fit")
        return None if not fit else (fit["slope"], fit["intercept"], fit["r2"])

    def array(self, name: str) -> np.ndarray | None:
        """Return one array; None if it is not there."""
        return self.run.load(self.path, lambda path: _array(path, name), "what it would show is")


def _array(path: Path, name: str) -> np.ndarray:
    with np.load(path, allow_pickle=False) as arrays:
        return arrays[name]


def analysis_of(run: Run) -> Analysis | None:
    """Return the analysis of a run's last model; None if there is none."""
    for folder in reversed(run.cycle_dirs.values()):
        facts = run.read_object(folder / "analysis.json")
        if facts is not None:
            return Analysis(run, facts, folder / "analysis.npz")
    return None
