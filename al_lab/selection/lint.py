"""A selection judged without a training, from the files a user has: predictions, embeddings, labels, the images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from al_lab.core.errors import ConfigError, DataError, explain
from al_lab.data.lint.copies import Copies, copies_by_print, copies_by_vector, joined
from al_lab.data.lint.lint import Lint, Subject, Target, lint, rates_of
from al_lab.data.lint.objects import Objects
from al_lab.data.near_copies import MAX_BITS, fingerprint_of_file
from al_lab.data.near_vectors import Cosine, near_cosine, unit
from al_lab.data.predictions.table import Predictions
from al_lab.labeling.store import LabelStore
from al_lab.selection.labeled import labels_of

_COVERED = 0.9  # of the target's images that predictions have to speak of, to be compared by them
LOOK = 1000


@dataclass(frozen=True)
class Judged:
    """What is judged, and by what.

    Attributes:
        dataset: of the images.
        predictions: of a detector; may be empty.
        chosen: the selection, in rank order.
        candidates: images that could have been chosen.
        labeled: images that are labeled.
        store: people's labels.
        oracle: its configuration, for the rates.
        shows: confidence from which on an image counts as one that shows a class.
        near_cosine: see `al_lab.data.near_vectors.near_cosine`.
        look: images that are opened for their fingerprints, besides those whose prints are here.
        prints: fingerprints that are known already.
        may_know: annotations of the pool may be read, where there are no predictions.
        seed: of the random selections.
    """

    dataset: Any
    predictions: Predictions
    chosen: Sequence[str]
    candidates: Sequence[str]
    labeled: Collection[str]
    store: LabelStore
    oracle: Mapping[str, Any] | None = None
    shows: float = 0.3
    near_cosine: Cosine = "auto"
    look: int = LOOK
    prints: Mapping[str, np.ndarray | None] = field(default_factory=dict)
    may_know: bool = False
    seed: int = 0


def judge(judged: Judged) -> Lint:
    """Judge a selection.

    Raises:
        ConfigError: for one of no image.
        DataError: if an annotation that is needed can't be read.
    """
    if not judged.chosen:
        do = "name a list that holds some"
        raise ConfigError(explain(expected="at least one chosen image", got="none", where="the selection", do=do))
    ids = list(dict.fromkeys([*judged.candidates, *judged.chosen]))
    row_of = {i: n for n, i in enumerate(ids)}
    chosen = np.array([row_of[i] for i in judged.chosen], np.int64)
    notes: list[str] = []
    objects = _objects(judged, ids, notes)
    unit_NE = _vectors(judged.predictions, ids)
    labeled = sorted(set(judged.labeled) - set(judged.chosen))
    subject = Subject(
        ids, chosen, judged.dataset.classes, objects, unit_NE, rates=rates_of(judged.oracle),
        shows=judged.shows, seed=judged.seed,
    )  # fmt: skip
    return lint(subject, _target(judged, objects, notes), _copies(judged, ids, chosen, labeled, unit_NE, notes), notes)


def _objects(judged: Judged, ids: Sequence[str], notes: list[str]) -> Objects | None:
    if len(judged.predictions.ids):
        return Objects.predicted(judged.predictions, ids)
    lacking = sum(not judged.dataset.has_truth(i) for i in ids) if judged.may_know else len(ids)
    if lacking:
        notes.append("No predictions, and not every image has labels: nothing can be said of its objects. Give "
                     "--predictions FILE")  # fmt: skip
        return None
    known = labels_of(ids, judged.dataset, judged.store)
    return Objects.known([known[i] for i in ids])


def _target(judged: Judged, objects: Objects | None, notes: list[str]) -> Target:
    """Return the validation set, else the test set: as the detector sees it if it was asked, else as it is labeled.

    Labels of it that can't be read are a note: what was chosen does not hang on them.
    """
    dataset, predictions = judged.dataset, judged.predictions
    words, ids = "the validation set", list(dataset.val_ids)
    if not ids:
        words, ids = "the test set", list(dataset.test_ids)
    of_ids = _vectors(predictions, ids)
    unit_VE = None if of_ids is None else of_ids[(of_ids != 0).any(1)]
    if objects is None or not ids:
        return Target(words, unit_VE=unit_VE)
    if not objects.is_known and np.mean([predictions.spoken_of(i) for i in ids]) >= _COVERED:
        return Target(words, "as the detector sees it", Objects.predicted(predictions, ids), unit_VE=unit_VE)
    ids = [i for i in ids if dataset.has_truth(i)]
    if not ids:
        return Target(words, unit_VE=unit_VE)
    size: Callable[[int], tuple[int, int]] | None = None
    if objects.in_shares:
        size = lambda n: dataset.size_hw(ids[n])  # noqa: E731
    try:
        known = labels_of(ids, dataset, judged.store)
        of_target = Objects.known([known[i] for i in ids], size)
    except DataError as error:
        notes.append(f"Nothing is compared with {words}: {error}")
        return Target(words, unit_VE=unit_VE)
    return Target(words, "as it is labeled", of_target, unit_VE=unit_VE)


def _vectors(predictions: Predictions, ids: Sequence[str]) -> np.ndarray | None:
    """Return vectors of length 1, (N, E) float32, zeros of images without one; None if there are none at all."""
    if predictions.embedding is None or not ids:
        return None
    at = np.array([predictions.embedded.get(i, -1) for i in ids], np.int64)
    found = np.zeros((len(ids), predictions.embedding.shape[1]), np.float32)
    found[at >= 0] = unit(predictions.embedding[at[at >= 0]])
    return found


def _copies(
    judged: Judged,
    ids: Sequence[str],
    chosen: np.ndarray,
    labeled: Sequence[str],
    unit_NE: np.ndarray | None,
    notes: list[str],
) -> Copies:
    broken: list[str] = []

    def prints(sample_id: str) -> np.ndarray | None:
        if sample_id in judged.prints:
            return judged.prints[sample_id]
        try:
            return fingerprint_of_file(judged.dataset.image_path(sample_id))
        except DataError as error:
            broken.append(str(error))
            return None

    look = judged.look + sum(i in judged.prints for i in judged.chosen)
    by_print = copies_by_print(judged.chosen, labeled, prints, look, MAX_BITS)
    if broken:
        notes.append(f"{len(broken):,} images can't be opened: {broken[0]}")
    by_vector = Copies()
    if unit_NE is not None:
        limit = near_cosine(unit_NE[(unit_NE != 0).any(1)], judged.near_cosine)
        unit_LE = _vectors(judged.predictions, labeled)
        if limit is not None:
            old = np.zeros((0, unit_NE.shape[1]), np.float32) if unit_LE is None else unit_LE
            by_vector = copies_by_vector(unit_NE, ids, chosen, old, labeled, limit, judged.seed)
    return joined(by_print, by_vector, {i: n for n, i in enumerate(judged.chosen)})
