"""A given selection judged: whoever made it, by whatever tool, from lists and files beside a dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from al_lab.config.checks import check_targets
from al_lab.core.documents import Source
from al_lab.core.errors import ConfigError, explain
from al_lab.core.fields import at_least, fraction, shown
from al_lab.core.files import write_json
from al_lab.data.lint.lint import Lint
from al_lab.data.lint.words import alarms, number
from al_lab.data.near_vectors import Cosine
from al_lab.data.predictions.names import ImageNames
from al_lab.data.predictions.read import PredictionFiles
from al_lab.labeling.store import LabelStore
from al_lab.selection.files import open_images, vector_files
from al_lab.selection.labeled import labeled_ids, listed
from al_lab.selection.lint import Judged, judge
from al_lab.selection.vectors import with_embedding


@dataclass(frozen=True)
class Given:
    """What a command gives.

    Attributes:
        selection: a list of images, ``selected.csv``, or a cycle's ``queries.json``; the first ones count as the best.
        predictions, arrays, images_json, first_category, labeled: see `al_lab.selection.run.Asked`.
        shows: confidence from which on an image counts as one that shows a class.
        near_cosine: see `al_lab.data.near_vectors.near_cosine`.
        look: images that are opened for their fingerprints, at most.
        out: folder for ``lint.html`` and ``lint.json``.
    """

    selection: Path
    predictions: Sequence[Path]
    arrays: Sequence[Path]
    images_json: Path | None
    first_category: int | None
    labeled: Sequence[str]
    shows: float
    near_cosine: Cosine
    look: int
    out: Path


def lint_given(config: Mapping[str, Any], given: Given) -> tuple[Lint, Path]:
    """Judge a selection of the configured dataset; return what was found, and the page.

    Args:
        config: composed, as for a campaign: ``dataset``, ``oracle`` (rates), ``embedding``, ``seed`` and ``runtime``
            count.
        given: the rest.

    Raises:
        LabError: for files that don't fit.
    """
    fraction(given.shows, "--shows", do="e.g. --shows 0.3")
    at_least(0)(given.look, "--look", do="e.g. --look 1000")
    check_targets({"dataset": config["dataset"]})
    files = PredictionFiles(given.predictions, [*given.arrays, *vector_files(config)], given.images_json)
    dataset = open_images(config["dataset"], files)
    if dataset.task != "detection":
        do = "parts of images are chosen by a campaign, whose report says what was bought"
        got = f"{dataset.name!r}, a {dataset.task} dataset"
        raise ConfigError(explain(expected="a dataset of boxes", got=got, where="al-lab lint", do=do))
    names = ImageNames({i: dataset.image_path(i) for ids in dataset.splits().values() for i in ids})
    labeled, notes = labeled_ids(given.labeled, dataset, names)
    predictions = with_embedding(config, dataset, files.join(names, dataset.classes, given.first_category))
    chosen = _chosen(given.selection, names, notes)
    labeled -= set(chosen)
    store = LabelStore(Path(config["runtime"]["data_dir"]) / ".labels")
    candidates = [i for i in dataset.pool_ids if i not in labeled]
    found = judge(
        Judged(
            dataset, predictions, chosen, candidates, labeled, store, config.get("oracle"), given.shows,
            given.near_cosine, given.look, may_know=True, seed=int(config["seed"]),
        )
    )  # fmt: skip
    write_json(given.out / "lint.json", found.to_json())
    return found, _page(dataset.name, given, found, [*predictions.notes, *notes])


def _chosen(path: Path, names: ImageNames, notes: list[str]) -> list[str]:
    """Return the images that a list names, each once, in its order."""
    said = listed(path)
    found = [names.find(name) for name in said]
    strangers = [name for name, i in zip(said, found, strict=True) if i is None]
    chosen = list(dict.fromkeys(i for i in found if i is not None))
    if not chosen:
        source = Source(path, "the list of a selection")
        raise source.wrong("names of the dataset's images", f"none, first {shown(strangers[0])}" if said else "none")
    if strangers:
        notes.append(f"{path}: {len(strangers)} of {len(said)} names are no images of the dataset, such as "
                     f"{shown(strangers[0])}; they are left out")  # fmt: skip
    if (twice := len(said) - len(strangers) - len(chosen)) > 0:
        notes.append(f"{path}: {twice} names stand there twice")
    return chosen


def _page(dataset: str, given: Given, found: Lint, notes: Sequence[str]) -> Path:
    from al_lab.reporting.document.page import Headline, Page, Section  # noqa: PLC0415 - matplotlib
    from al_lab.reporting.sections.lint import lint_section  # noqa: PLC0415

    loud = alarms(found)
    numbers = [Headline(f"{found.num_chosen:,}", "images chosen", f"of {found.num_pool:,}")]
    numbers += [Headline(f"{m.value:,.0f}", m.words, f"random selections {number(m.mean)}") for m in found.cost]
    numbers.append(Headline(f"{len(found.copies.found):,}", "near copies", "of chosen or labeled images"))
    read = Section("read", "What was read", ", ".join(map(str, [given.selection, *given.predictions, *given.arrays])))
    read.missing = [(note[:1].upper() + note[1:], "") for note in notes]
    page = Page(
        f"{found.num_chosen:,} images, judged without a training", f"{dataset} · {given.selection}",
        "look again" if loud else "nothing odd", not loud, "; ".join(loud[:2]), numbers,
        [lint_section(found, "entropy"), read],
    )  # fmt: skip
    path = given.out / "lint.html"
    page.write(path)
    return path
