"""One choice from start to end: files, checks, choice, table, page, and the folder for people."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from al_lab.config.build import build
from al_lab.config.checks import check_kinds, check_targets
from al_lab.config.options import strategies_in
from al_lab.core.errors import ConfigError, did_you_mean, explain
from al_lab.core.fields import at_least, below_one, fraction, one_of, optional, share
from al_lab.core.files import write_json
from al_lab.core.strategy import Strategy
from al_lab.data.lint.lint import Lint
from al_lab.data.near_copies import MAX_BITS
from al_lab.data.predictions.names import ImageNames
from al_lab.data.predictions.read import PredictionFiles
from al_lab.data.predictions.table import Predictions, check_embedded
from al_lab.data.predictions.views import Views
from al_lab.labeling.request import TOOLS
from al_lab.labeling.store import LabelStore
from al_lab.selection.choose import Choice, Order, choose, contexts
from al_lab.selection.files import near_cosine_of, open_images, vector_files
from al_lab.selection.fit import check_built, check_task
from al_lab.selection.labeled import ANNOTATED, Known, labeled_ids, labels_of
from al_lab.selection.lint import Judged, judge
from al_lab.selection.vectors import with_embedding
from al_lab.selection.write import REQUEST, Row, check_new, rows_of, write_selection

log = logging.getLogger(__name__)

_ALIKE = ("entropy", "least_confidence", "margin")


@dataclass(frozen=True)
class Asked:
    """What a command asks for.

    Attributes:
        predictions: files, or folders of YOLO text.
        arrays: ``.npz`` files with distributions or embeddings.
        images_json: a COCO document that explains ids.
        first_category: what number the first class has, where no file tells.
        labeled: lists of images that are labeled, or the word ``annotated``.
        amount: how much may be bought.
        unit: of it.
        random_share: of the amount that is drawn at random.
        quotas: class name -> least share.
        shows: confidence from which on an image counts as one that shows a class.
        is_near_copies_allowed: whether near copies are chosen like others.
        near_cosine: from which cosine of two embeddings on they are near copies: a number, ``auto`` or ``off``.
        cycle: which round it is.
        out: a new folder.
        tool: whose format the folder for people also has.
        thumbnails: on the page, of each arm.
        min_confidence: of boxes that people are offered to start from.
        commands: to take over labels, and of the next round, for the page.
    """

    predictions: Sequence[Path]
    arrays: Sequence[Path]
    images_json: Path | None
    first_category: int | None
    labeled: Sequence[str]
    amount: int
    unit: Literal["image", "box"]
    random_share: float
    quotas: Mapping[str, float]
    shows: float
    is_near_copies_allowed: bool
    near_cosine: str
    cycle: int
    out: Path
    tool: str | None
    thumbnails: int
    min_confidence: float
    commands: Sequence[str] = ()

    def check(self) -> None:
        """Refuse numbers that make no sense.

        Raises:
            ConfigError: naming the option.
        """
        at_least(1)(self.amount, "--count or --boxes", do="e.g. --count 500")
        below_one(self.random_share, "--random-share", do="e.g. --random-share 0.1; strategy=random draws all")
        fraction(self.shows, "--shows", do="e.g. --shows 0.3")
        fraction(self.min_confidence, "--min-confidence", do="e.g. --min-confidence 0.3")
        at_least(0)(self.cycle, "--cycle", do="e.g. --cycle 1 for the second round")
        at_least(0)(self.thumbnails, "--thumbnails")
        optional(one_of(*TOOLS))(self.tool, "--tool")
        near_cosine_of(self.near_cosine)
        for name, part in self.quotas.items():
            share(part, f"--quota {name}", do=f"e.g. --quota {name}=0.3: three of ten images show one")
        check_new(self.out)


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        rows: the images, in the order in which to label them.
        notes: sentences about what was read.
        alarms: sentences about classes that starve.
        lint: what can be said of it without a training.
        page: its file.
    """

    rows: list[Row]
    notes: list[str]
    alarms: list[str]
    lint: Lint
    page: Path


def select(config: Mapping[str, Any], asked: Asked) -> Outcome:
    """Choose images of the configured dataset with the configured strategy, and write what people need.

    Args:
        config: composed, as for a campaign: ``dataset``, ``strategy``, ``seed``, ``runtime`` and ``choices`` count.
        asked: the rest.

    Raises:
        LabError: before anything is written, for whatever doesn't fit.
    """
    asked.check()
    check_targets({"dataset": config["dataset"], "strategy": config["strategy"]})
    check_kinds({"strategy": config["strategy"]})
    files = PredictionFiles(asked.predictions, [*asked.arrays, *vector_files(config)], asked.images_json)
    dataset = open_images(config["dataset"], files)
    names = ImageNames({i: dataset.image_path(i) for ids in dataset.splits().values() for i in ids})
    labeled, notes = labeled_ids(asked.labeled, dataset, names)
    predictions = with_embedding(config, dataset, files.join(names, dataset.classes, asked.first_category))
    notes = [*predictions.notes, *notes, *_notes(predictions, dataset, labeled, asked, config)]
    order = _order(asked, dataset, predictions, int(config["seed"]))
    strategy = _strategy(config, dataset, predictions, labeled)
    store = LabelStore(Path(config["runtime"]["data_dir"]) / ".labels")
    if strategy.needs_labels:
        strategy.learn(labels_of(sorted(labeled), dataset, store))
    is_own = not all(target.startswith("al_lab.") for target in strategies_in(config["strategy"]))
    views = Views(predictions, dataset, strategy.needs_for(asked.unit), has_sizes=is_own)
    choice = choose(strategy, views, predictions, dataset, labeled, Known(store, dataset), order)
    _check_any(choice)
    rows = rows_of(choice, strategy, views, predictions, dataset, contexts(order, labeled), notes)
    if len(rows) < asked.amount and asked.unit == "image":
        notes.append(f"{len(rows)} of {asked.amount} images: there are no more that may be chosen")
    if choice.num_without:
        notes.append(
            f"{choice.num_without:,} images have no embedding: their near copies are found by fingerprint alone"
        )
    notes += [f"{i} can't be opened and was passed over: {why}" for i, why in choice.unreadable.items()]
    boxes = asked.amount if asked.unit == "box" else None
    write_selection(asked.out, rows, dataset, asked.min_confidence, boxes, asked.tool)
    found = _judged(config, asked, dataset, predictions, choice, order, labeled, store)
    alarms, page = _page(config, asked, dataset, predictions, choice, order, rows, len(labeled), notes, found)
    for sentence in (*notes, *alarms):
        log.warning("%s", sentence)
    return Outcome(rows, notes, alarms, found, page)


def _check_any(choice: Choice) -> None:
    if choice.picks:
        return
    got = f"none: {len(choice.copies):,} of them are near copies, {len(choice.unreadable):,} can't be opened"
    do = "--near-copies keep chooses near copies, too; of boxes, ask for more"
    raise ConfigError(explain(expected="images that may be chosen", got=got, where="al-lab select", do=do))


def _judged(
    config: Mapping[str, Any],
    asked: Asked,
    dataset: Any,
    predictions: Predictions,
    choice: Choice,
    order: Order,
    labeled: set[str],
    store: LabelStore,
) -> Lint:
    """Judge the choice, and write ``lint.json``."""
    chosen = [pick.sample_id for pick in choice.picks]
    ids = choice.candidates.sample_ids
    cosine = near_cosine_of(asked.near_cosine) if choice.near_cosine is None else choice.near_cosine
    found = judge(
        Judged(
            dataset, predictions, chosen, ids, labeled, store, config.get("oracle"), order.shows, cosine,
            prints=choice.prints, seed=order.seed,
        )
    )  # fmt: skip
    write_json(asked.out / "lint.json", found.to_json())
    return found


def _page(
    config: Mapping[str, Any],
    asked: Asked,
    dataset: Any,
    predictions: Predictions,
    choice: Choice,
    order: Order,
    rows: Sequence[Row],
    num_labeled: int,
    notes: Sequence[str],
    lint: Lint,
) -> tuple[list[str], Path]:
    """Write the page; return the alarms and its file."""
    from al_lab.selection.page import Told, alarms, class_rows, make_page, write_page  # noqa: PLC0415 - matplotlib

    counts = class_rows(predictions, choice, order)
    found = alarms(counts, choice, order, dataset.classes) if len(predictions.ids) else []
    folder = asked.out / REQUEST
    words = (
        f"Label the images of {folder}/images, the first ones first ({folder}/README.txt says how), then take over "
        "what is in labels/: it is kept with the images, and the random share is compared with the others",
        "When the detector is trained with them and has predicted again, choose anew; what was chosen is left out",
    )
    told = Told(
        dataset.name,
        str(config["choices"]["strategy"]),
        dataset.classes,
        num_labeled,
        [str(path) for path in (*asked.predictions, *asked.arrays)],
        notes,
        found,
        list(zip(words, asked.commands, strict=False)),
        lint,
    )
    return found, write_page(make_page(told, rows, choice, counts, order, asked.thumbnails), asked.out)


def _strategy(config: Mapping[str, Any], dataset: Any, predictions: Predictions, labeled: set[str]) -> Strategy:
    name, node = str(config["choices"]["strategy"]), config["strategy"]
    check_task(name, node, dataset, predictions.provides, bool(labeled))
    strategy: Strategy = build(node)
    check_built(name, strategy)
    if "image_embedding" in strategy.needs_for("image"):
        ids = [i for i in dataset.pool_ids if strategy.scores_labeled or i not in labeled]
        check_embedded(predictions, ids, f"strategy={name}, --arrays")
    if getattr(strategy, "sigmoid", None) == "classes" and predictions.probs is None:
        raise ConfigError(
            explain(
                expected="whole class distributions, for strategy.sigmoid=classes",
                got="confidences alone",
                where=f"strategy={name}",
                do="give --arrays FILE.npz with 'probs', or strategy.sigmoid=confidence",
            )
        )
    return strategy


def _order(asked: Asked, dataset: Any, predictions: Predictions, seed: int) -> Order:
    quotas = {}
    for name, part in asked.quotas.items():
        if name not in dataset.classes:
            do = did_you_mean(name, dataset.classes)
            raise ConfigError(explain(expected="a class", got=repr(name), where="--quota", do=do))
        quotas[dataset.classes.index(name)] = part
    if (quotas or asked.unit == "box") and not len(predictions.ids):
        where = "--quota" if quotas else "--boxes"
        do = "give --predictions FILE, or --count without quotas"
        raise ConfigError(
            explain(expected="predictions, which tell what an image shows", got="none", where=where, do=do)
        )
    bits = None if asked.is_near_copies_allowed else MAX_BITS
    cosine = None if asked.is_near_copies_allowed else near_cosine_of(asked.near_cosine)
    more = (asked.random_share, quotas, asked.shows, bits, cosine)
    return Order(asked.amount, asked.unit, seed, asked.cycle, *more)


def _notes(
    predictions: Predictions, dataset: Any, labeled: set[str], asked: Asked, config: Mapping[str, Any]
) -> list[str]:
    """Say what people should know of the files before they trust the choice."""
    notes, name = [], str(config["choices"]["strategy"])
    silent = sum(i not in labeled and not predictions.spoken_of(i) for i in dataset.pool_ids)
    if len(predictions.ids) and silent:
        notes.append(
            f"{silent:,} of {len(dataset.pool_ids):,} images stand in no file: they count as images in which the "
            "detector finds nothing"
        )
    if len(predictions.ids) and predictions.probs is None:
        alike = f"; with aggregate=max {', '.join(_ALIKE)} then rank alike" if name in _ALIKE else ""
        notes.append(
            "of each box only its confidence s is known: it counts as a yes/no answer of entropy "
            f"-s ln s - (1 - s) ln (1 - s), and the other classes as ruled out{alike}"
        )
    annotated = sum(map(dataset.has_truth, dataset.pool_ids)) if ANNOTATED not in asked.labeled else 0
    rest = annotated - sum(dataset.has_truth(i) for i in labeled) if annotated else 0
    if rest:
        notes.append(f"{rest:,} images have annotations and count as unlabeled: --labeled {ANNOTATED} leaves them out")
    return notes
