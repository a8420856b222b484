"""The first query beside what entropy would have bought (MGRAL, Fig. 4): which images, how unsure the detector is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from al_lab.core.pool import INITIAL
from al_lab.reporting.document.page import Picture, Section, Sheet
from al_lab.reporting.document.tables import Table
from al_lab.reporting.figures.mosaic import Tile, class_colors, tiles
from al_lab.reporting.figures.pool import ChoicePanel, choice_scatter
from al_lab.reporting.read.run_folder import Choice, Run
from al_lab.reporting.sections.run import scored_cycles

_FILE = "entropies.json"
_NAMES = {"mean_entropy": "Largest mean entropy", "sum_entropy": "Largest sum of entropies"}
_SHOWN = 4
_TEXT = (
    "As in MGRAL's Fig. 4: the first images of the first query, and those that would have been first by the mean, or "
    "by the sum, of the entropies of an image's boxes (of confidence {least:g} and more; an image without such a box "
    "has 0)."
)
_NO_MIAL = " MIAL, the figure's fourth method, trains a detector of its own (strategy=mial), so its images are missing."


@dataclass(frozen=True)
class _Unsure:
    """Of the images of one query that could be bought: ids, mean and sum of entropies in nats, bought or not."""

    ids: tuple[str, ...]
    values: Mapping[str, np.ndarray]
    is_bought: np.ndarray

    def words(self, sample_id: str) -> str:
        """Return what stands below a picture."""
        row = self.ids.index(sample_id) if sample_id in self.ids else None
        if row is None:
            return ""
        mean, total = (float(self.values[name][row]) for name in _NAMES)
        return f"mean {mean:.2f}, sum {total:.2f}"


def choice_section(run: Run) -> Section:
    """Show pictures and entropies of the first query; empty where nobody looked at boxes."""
    section = Section("choice", "The choice beside entropy")
    cycle = next((c for c in scored_cycles(run) if run.bought(c)), None)
    facts = None if cycle is None or cycle not in run.cycle_dirs else _facts(run, cycle)
    found = None if facts is None or cycle is None else _unsure(run, cycle)
    if facts is None or found is None or cycle is None:
        return section
    least = facts.get("min_confidence")
    section.text = _TEXT.format(least=least if isinstance(least, int | float) else 0) + _shared(found)
    section.text += _NO_MIAL if run.strategy == "mgral" else ""
    section.pictures.append(
        Picture(
            "choice",
            choice_scatter(ChoicePanel(found.values["mean_entropy"], found.values["sum_entropy"], found.is_bought)),
            "mean against sum of the entropies of every candidate, those bought marked",
            f"Each point is an image that could be bought after cycle {cycle}.",
        )
    )
    section.tables.append(_averages(cycle, found))
    chosen = run.bought(cycle)
    rows = [(f"choice_{run.strategy}", f"{run.strategy}: bought first", chosen[:_SHOWN], len(chosen))]
    for name, title in _NAMES.items():
        choices = _named(run, facts, name)
        rows.append((f"choice_{name}", title, choices, len(choices)))
    section.sheets += [
        Sheet(name, title, _pictures(run, choices, found), total) for name, title, choices, total in rows if choices
    ]
    return section


def _facts(run: Run, cycle: int) -> Mapping | None:
    path = run.cycle_dirs[cycle] / _FILE
    return run.read_object(path) if path.exists() else None


def _unsure(run: Run, cycle: int) -> _Unsure | None:
    candidates = run.candidates(cycle)
    if candidates is None or candidates.center is not None:
        return None
    values = {name: np.asarray(candidates.info.get(name, np.zeros(0)), float) for name in _NAMES}
    if any(v.shape != (len(candidates.sample_ids),) or not np.isfinite(v).all() for v in values.values()):
        return None
    before = {c.sample_id for k in (INITIAL, *range(cycle)) for c in run.bought(k)}
    rows = [n for n, i in enumerate(candidates.sample_ids) if i not in before]
    ids = tuple(candidates.sample_ids[n] for n in rows)
    bought = {c.sample_id for c in run.bought(cycle)}
    if not bought & set(ids):
        return None
    return _Unsure(ids, {name: v[rows] for name, v in values.items()}, np.array([i in bought for i in ids]))


def _shared(found: _Unsure) -> str:
    """Say how many of those bought entropy would have bought."""
    size, num = int(found.is_bought.sum()), len(found.ids)
    counts = [int(found.is_bought[np.argsort(-found.values[name], kind="stable")[:size]].sum()) for name in _NAMES]
    return (
        f" Of the {size:,} images bought, {counts[0]:,} are among the {size:,} of the largest mean and {counts[1]:,} "
        f"among those of the largest sum; by chance {size * size / num:,.1f} would be."
    )


def _averages(cycle: int, found: _Unsure) -> Table:
    rows: list[list] = []
    for label, chosen in (("bought", found.is_bought), ("not bought", ~found.is_bought)):
        if chosen.any():
            means = [float(found.values[name][chosen].mean()) for name in _NAMES]
            without = 100 * float((found.values["sum_entropy"][chosen] == 0).mean())
            rows.append([label, int(chosen.sum()), *means, without])
    return Table(
        "choice",
        f"Entropies of the candidates of cycle {cycle}",
        ["", "images", "mean entropy", "sum of entropies", "without a box that counts, %"],
        rows,
        digits=[0, 0, 2, 2, 1],
        note="Nats, averages over images.",
    )


def _named(run: Run, facts: Mapping, name: str) -> list[Choice]:
    """Return the images that the file names; they are shown without boxes, as nobody bought their labels."""
    largest = facts.get("largest")
    rows = largest.get(name) if isinstance(largest, Mapping) else None
    good = (
        [r for r in rows if isinstance(r, Mapping) and isinstance(r.get("id"), str)] if isinstance(rows, list) else []
    )
    return [Choice(r["id"], None, run.image(r.get("image")), np.zeros((0, 4)), ()) for r in good[:_SHOWN]]


def _pictures(run: Run, choices: Sequence[Choice], found: _Unsure) -> list[Tile]:
    drawn = tiles(choices, class_colors(run.classes), _SHOWN)
    return [Tile(t.choice, t.picture, t.problem, found.words(t.choice.sample_id)) for t in drawn]
