"""What came back of a choice: people's labels go into the store, and both arms are compared."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from al_lab.core.documents import Source
from al_lab.core.fields import WrongValueError, number, written
from al_lab.core.files import sha256, write_text
from al_lab.core.record.csv_file import cell_of
from al_lab.core.types import Annotation, Detections, Query
from al_lab.data.predictions.names import ImageNames
from al_lab.data.predictions.read import PredictionFiles
from al_lab.labeling.answers import read_answers
from al_lab.labeling.request import Item, make_items, write_images_and_lists
from al_lab.labeling.store import LabelStore, stored_labels
from al_lab.metrics.voc_ap import true_positives
from al_lab.selection.choose import RANDOM, STRATEGY
from al_lab.selection.write import REQUEST

_IOU = 0.5
_FEWEST = 2  # images of an arm, for a mean with an error
_CONFIDENCE = 0.95
_UTILITY = written(number)


@dataclass(frozen=True)
class Taken:
    """What was taken over.

    Attributes:
        asked: images that people were asked for.
        labeled: of them, those with labels now.
        new: answers that were not known before.
        problems: a sentence for each thing that could not be taken over.
        notes: a sentence for each thing that was worked around.
        corrections: arm -> for each labeled image, how many boxes of the detector were wrong or missing.
    """

    asked: int
    labeled: int
    new: int
    problems: Sequence[str]
    notes: Sequence[str]
    corrections: Mapping[str, Sequence[int]] = field(default_factory=dict)


def classes_of(folder: Path) -> list[str]:
    """Return the classes that people were asked for."""
    source = Source(folder / REQUEST / "classes.txt", "the classes of a folder that al-lab select wrote")
    return [line for _, line in source.read_lines()]


def take(folder: Path, dataset: Any, store: LabelStore) -> Taken:
    """Read what people put into ``to_label/labels/``; what is right is kept with the images and never asked for again.

    ``problems.txt`` beside it says what is wrong, and the lists there name what is still open.

    Args:
        folder: that ``al-lab select`` wrote.
        dataset: of its images.
        store: of people's labels.

    Raises:
        DataError: if it is no such folder, or of another dataset.
    """
    rows = _rows(folder, dataset)
    items = make_items(dataset, [query for query, _ in rows])
    request = folder / REQUEST
    answers = read_answers(request / "labels", items, dataset.classes, True, None)
    new = 0
    for sample_id, label in answers.annotations.items():
        digest, seconds = sha256(dataset.image_path(sample_id)), answers.seconds.get(sample_id)
        new += store.add(digest, dataset.classes, label, seconds, answers.sources[sample_id])
    if answers.problems:
        write_text(request / "problems.txt", "".join(f"{problem}\n" for problem in answers.problems))
    else:
        (request / "problems.txt").unlink(missing_ok=True)
    kept = stored_labels(store, dataset, [item.sample_id for item in items])
    labels: dict[str, Annotation] = {i: label.seen_by(dataset.classes) for i, label in kept.items()}
    write_images_and_lists(request, dataset, items, labels)
    found = _prelabels(request, items, dataset.classes)
    arms = {query.sample_id: arm for query, arm in rows}
    corrections: dict[str, list[int]] = {STRATEGY: [], RANDOM: []}
    for sample_id, count in _corrections(found, labels, len(dataset.classes)).items():
        corrections[arms[sample_id]].append(count)
    return Taken(len(items), len(labels), new, answers.problems, answers.notes, corrections)


def sentences(taken: Taken, folder: Path) -> list[str]:
    """Say what was taken over, and whether the strategy's images had more to correct than random ones."""
    said = [f"{taken.labeled} of {taken.asked} images of {folder} are labeled, {taken.new} answers are new"]
    said += [f"not taken over: {problem}" for problem in taken.problems]
    mine, drawn = (np.asarray(taken.corrections.get(arm, ()), float) for arm in (STRATEGY, RANDOM))
    if not len(drawn):
        return said
    if min(len(mine), len(drawn)) < _FEWEST:
        return [*said, f"too few labels to compare: {len(mine)} images of the strategy, {len(drawn)} drawn at random"]
    difference = float(mine.mean() - drawn.mean())
    if mine.std() == 0 and drawn.std() == 0:
        low = high = difference
    else:
        test = stats.ttest_ind(mine, drawn, equal_var=False)
        low, high = (float(x) for x in test.confidence_interval(_CONFIDENCE))
    verdict = (
        "more than chance explains: the strategy finds images on which the detector errs" if low > 0
        else "fewer than random ones, more than chance explains: random would have been the better choice" if high < 0
        else "which chance alone could explain"
    )  # fmt: skip
    return [
        *said,
        f"boxes that were wrong or missing, an image: {mine.mean():.2f} of the strategy ({len(mine)} images), "
        f"{drawn.mean():.2f} at random ({len(drawn)}); difference {difference:+.2f} (95 % from {low:+.2f} to "
        f"{high:+.2f}), {verdict}",
    ]


def _rows(folder: Path, dataset: Any) -> list[tuple[Query, str]]:
    source = Source(folder / "selected.csv", "the table of a folder that al-lab select wrote", "name that folder")
    try:
        rows = list(csv.DictReader(io.StringIO(source.read_bytes().decode("utf-8-sig"))))
        found = [(cell_of(row["sample_id"]), row["arm"], row["utility"]) for row in rows]
        values = [_UTILITY.read(utility) if utility else 0.0 for *_, utility in found]
    except (UnicodeDecodeError, csv.Error, KeyError, AttributeError, TypeError, WrongValueError) as error:
        raise source.wrong(source.what, f"another one ({type(error).__name__}: {error})") from error
    pool = set(dataset.pool_ids)
    for n, (sample_id, arm, _) in enumerate(found, 2):
        if sample_id not in pool:
            do = "give the dataset that the images were chosen from"
            raise source.wrong("images of the dataset", repr(sample_id), f"line {n}", do)
        if arm not in (STRATEGY, RANDOM):
            raise source.wrong(f"{STRATEGY} or {RANDOM}", repr(arm), f"line {n}, arm")
    if not found:
        raise source.wrong("at least one image", "none")
    return [(Query(i, None, value), arm) for (i, arm, _), value in zip(found, values, strict=True)]


def _prelabels(request: Path, items: Sequence[Item], classes: Sequence[str]) -> Mapping[str, Detections]:
    """Return what people were shown of each image."""
    names = ImageNames({item.sample_id: Path(item.file_name) for item in items})
    found = PredictionFiles([request / "prelabels" / "coco.json"]).join(names, classes)
    return {item.sample_id: found.detections(item.sample_id) for item in items}


def _corrections(found: Mapping[str, Detections], labels: Mapping[str, Annotation], num_classes: int) -> dict[str, int]:
    """Return for each labeled image how many boxes were wrong, or missing."""
    counts = {}
    for sample_id, label in labels.items():
        is_true, is_false = true_positives([found[sample_id]], [label], num_classes, _IOU)
        there = int((~(label.difficult | label.crowd)).sum())
        counts[sample_id] = int(is_false.sum()) + there - int(is_true.sum())
    return counts
