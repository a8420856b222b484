"""What a purchase of a campaign looks like without its training, from the run folder alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from al_lab.core.arrays import Column, load_arrays
from al_lab.core.errors import LabError
from al_lab.core.pool import INITIAL
from al_lab.core.types import Annotation
from al_lab.data.lint.copies import Copies, copies_by_print, copies_by_vector, joined
from al_lab.data.lint.lint import Lint, Subject, Target, lint, rates_of
from al_lab.data.lint.objects import Objects
from al_lab.data.near_copies import MAX_BITS, fingerprint_of_file
from al_lab.data.near_vectors import near_cosine, unit
from al_lab.reporting.read.run_folder import Choice, Run, number_of

_LOOK = 50  # images of a purchase, and labeled ones beside them, that are opened for their fingerprints
_FEWEST = 5  # images of an initial set that random selections can be drawn from
_PRINTS = {"ids": Column("U", ("N",)), "prints": Column("u", ("N", None)), "has_print": Column("b", ("N",))}

Prints = Callable[[str], np.ndarray | None]


def why_not(run: Run) -> str:
    """Say why the purchases of a run can't be judged so; "" if they can."""
    budget = run.config.get("budget")
    by = budget.get("initial_by", "random") if isinstance(budget, dict) else "random"
    initial = budget.get("initial") if isinstance(budget, dict) else None
    if not isinstance(initial, int | float) or by != "random" or run.strategy == "replay":
        return (
            "Nothing is known here of random selections: the initial set was not drawn at random, and nobody else "
            "tells what images of the pool show."
        )
    if len(run.bought(INITIAL)) < _FEWEST:
        return f"Random selections are drawn from the initial set, which has fewer than {_FEWEST} images here."
    return ""


def lint_of(run: Run, cycle: int, prints: Prints) -> Lint | None:
    """Judge what was bought at the end of a cycle; None if nothing came back.

    Random selections are drawn, with replacement, from the initial set, which was drawn from the pool at random: labels
    of other images are hidden. It is compared with the test set's number of objects a class. Embeddings, where the
    strategy kept those of its candidates, are compared with the pool's.

    Args:
        run: its initial set must be random, see `why_not`.
        cycle: of the purchase.
        prints: see `prints_of`.
    """
    first, chosen = run.bought(INITIAL), run.bought(cycle)
    if not chosen or not run.classes:
        return None
    label_of = {name: n for n, name in enumerate(run.classes)}
    objects = Objects.known([_annotation(c, label_of) for c in (*chosen, *first)])
    mine = np.arange(len(chosen))
    ids = [c.sample_id for c in (*chosen, *first)]
    stand_for_pool, rates = len(chosen) + np.arange(len(first)), rates_of(run.config.get("oracle"))
    subject = Subject(ids, mine, run.classes, objects, None, stand_for_pool, rates)
    labeled = sorted(run.labeled_ids(cycle))
    by_print = copies_by_print(ids[: len(chosen)], labeled, prints, _LOOK + len(chosen[:_LOOK]), MAX_BITS)
    embedded = _embedded(run, cycle, ids[: len(chosen)], labeled)
    copies = by_print if embedded is None else joined(by_print, embedded.copies, {i: n for n, i in enumerate(ids)})
    found = lint(subject, Target("the test set", "as it is labeled", class_C=_test_counts(run)), copies)
    if embedded is None:
        return found
    return replace(found, measures=[*found.measures, *(m for m in embedded.measures if m.key != "copies")])


def _annotation(choice: Choice, label_of: dict[str, int]) -> Annotation:
    known = [n for n, name in enumerate(choice.labels) if name in label_of]
    return Annotation.make(choice.boxes_xyxy[known], [label_of[choice.labels[n]] for n in known])


def _test_counts(run: Run) -> np.ndarray | None:
    """Return the test set's objects of each class, which an evaluation counts; None before the first."""
    for folder in reversed(run.cycle_dirs.values()):
        rows = run.read_csv(folder / "per_class.csv")
        count = {row.get("class"): number_of(row.get("num_gt")) for row in rows}
        if count and all(np.isfinite(count.get(name, np.nan)) for name in run.classes):
            return np.array([count[name] for name in run.classes])
    return None


def _embedded(run: Run, cycle: int, chosen: Sequence[str], labeled: Sequence[str]) -> Lint | None:
    """Return what the embeddings of the candidates tell; None if there are none.

    Copies are looked for by an embedding from elsewhere only: a detector that has hardly learned takes strangers for
    copies.
    """
    candidates = run.candidates(cycle)
    features = None if candidates is None else candidates.info.get("embedding")
    if candidates is None or features is None or features.ndim != 2:  # noqa: PLR2004
        return None
    row_of = {i: n for n, i in enumerate(candidates.sample_ids)}
    gone = set(labeled)
    free = [i for i in candidates.sample_ids if i not in gone]
    at = {i: n for n, i in enumerate(free)}
    rows = np.array([at[i] for i in chosen if i in at], np.int64)
    if not len(rows):
        return None
    old = [i for i in labeled if i in row_of]
    unit_NE, unit_LE = (unit(features[[row_of[i] for i in ids]]) for ids in (free, old))
    limit = near_cosine(unit_NE) if run.config.get("embedding") not in (None, "objects") else None
    copies = Copies() if limit is None else copies_by_vector(unit_NE, free, rows, unit_LE, old, limit, 0)
    return lint(Subject(free, rows, run.classes, None, unit_NE), Target(""), copies)


def prints_of(run: Run) -> Prints:
    """Return what gives an image's fingerprint: the survey of the run if there was one, else the image itself.

    None of an image that can't be opened, or that the page may not show.
    """
    known: dict[str, np.ndarray | None] = {}
    path = run.path / "initial" / "survey.npz"
    found = run.load(path, lambda p: load_arrays(p, _PRINTS), "its fingerprints are")
    if found is not None:
        rows = zip(found["ids"].tolist(), found["prints"], found["has_print"].tolist(), strict=True)
        known = {i: p if has else None for i, p, has in rows}
    paths = {c.sample_id: c.image for purchase in run.purchases for c in run.bought(purchase)}

    def of(sample_id: str) -> np.ndarray | None:
        if sample_id not in known:
            image = paths.get(sample_id)
            try:
                known[sample_id] = None if image is None else fingerprint_of_file(image)
            except (LabError, OSError):  # the section on images says so
                known[sample_id] = None
        return known[sample_id]

    return of
