"""The oracle that is people: it asks through a folder and takes back what their tools export."""

import json
import logging
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from al_lab.core.documents import Source
from al_lab.core.errors import AwaitingLabels, ConfigError, ResumeError, explain
from al_lab.core.fields import flag, fraction, not_negative, one_of, optional, positive, text
from al_lab.core.files import sha256, write_text
from al_lab.core.oracle import Oracle
from al_lab.core.pool import INITIAL
from al_lab.core.record.labels import read_annotations
from al_lab.core.record.predictions import load_predictions
from al_lab.core.record.purchase import Purchase
from al_lab.core.record.seal import seal
from al_lab.core.types import Annotation, Query
from al_lab.labeling.answers import Answers, read_answers
from al_lab.labeling.request import TOOLS, Item, make_items, write_request
from al_lab.labeling.store import LabelStore, stored_labels

log = logging.getLogger(__name__)

_PROBLEMS_SHOWN = 10
_DO = "restore the file, or remove it: labels that still lie in to_label/ are read again"


class FolderOracle(Oracle):
    """Has people label the queried images and waits without holding a process.

    `reveal` writes ``to_label/<cycle>/`` and ends the command; the same command looks at ``labels/`` in there, takes
    over what is correct (into the run folder, so it is never asked for again), names what is not, and goes on when
    all is there. Until then a correction of an image that was taken over counts as well.

    Args:
        folder: where to exchange files; None: ``to_label/`` in the run folder.
        min_confidence: of the model's detections that are offered as pre-labels.
        one_based: whether VOC files count pixels from 1.
        empty_is_answer: an image without objects in a file means that there are none. None: only where the file was
            made for this image alone or its tool says that the image is done; False: never, such images have to be
            listed in ``no_objects.txt``.
        tool: of `TOOLS`, for which files are written beside COCO and VOC.
        store: folder of what people labeled (see `LabelStore`); None: this run asks for everything itself.
        wait: keep the command running until the labels are there, instead of ending it.
        poll_seconds: how often a waiting command looks.
        seconds_per_image, seconds_per_box, seconds_per_pixel: see `Oracle`.
    """

    needs_truth = False
    wants_predictions = True

    def __init__(
        self,
        folder: str | None = None,
        min_confidence: float = 0.3,
        one_based: bool = True,
        empty_is_answer: bool | None = None,
        tool: str | None = None,
        store: str | None = None,
        wait: bool = False,
        poll_seconds: float = 5.0,
        seconds_per_image: float = 2.0,
        seconds_per_box: float = 7.0,
        seconds_per_pixel: float = 2.0,
    ) -> None:
        super().__init__(seconds_per_image, seconds_per_box, seconds_per_pixel)
        self.folder = Path(folder) if folder else None
        self.min_confidence = fraction(min_confidence, "oracle.min_confidence", "try 0.3")
        self.one_based = one_based
        self.empty_is_answer = empty_is_answer
        self.tool = optional(one_of(*TOOLS))(tool, "oracle.tool")
        self.wait = flag(wait, "oracle.wait")
        self.poll_seconds = positive(poll_seconds, "oracle.poll_seconds")
        self.store = LabelStore(Path(store).expanduser()) if store else None

    def reveal(self, dataset: Any, purchase: Purchase) -> tuple[Query, ...]:
        """Ask, or take back what was asked for.

        Raises:
            AwaitingLabels: as long as labels are missing.
            ConfigError: for pixels, which no folder of boxes can hold.
        """
        if dataset.task != "detection" or any(q.region is not None for q in purchase.queries):
            raise ConfigError(
                explain(
                    expected="whole images of a detection dataset",
                    got=f"{dataset.task}, budget.unit={purchase.allowance.unit}",
                    where="oracle=folder",
                    do="use oracle=simulated, or budget.unit=image with a detector",
                )
            )
        folder = self.exchange_folder(purchase)
        while True:
            before = _state_of(folder / "labels")
            try:
                return self._ask(dataset, purchase, folder)
            except AwaitingLabels as waiting:
                if not self.wait:
                    raise
                log.info("%s\nwaiting: this command goes on by itself (Ctrl-C ends it; nothing is lost)", waiting)
            while _state_of(folder / "labels") == before:
                time.sleep(self.poll_seconds)

    def _ask(self, dataset: Any, purchase: Purchase, folder: Path) -> tuple[Query, ...]:
        """Take over what is there; deliver if it is all, else bring the request up to date.

        Raises:
            AwaitingLabels: as long as labels are missing.
        """
        items = make_items(dataset, purchase.queries)
        accepted = _read_accepted(purchase)
        asked = _read_asked(purchase)
        accepted = self._from_store(dataset, purchase, set(accepted)) | accepted
        problems = self._collect(folder, items, dataset, purchase, accepted, asked)
        wanted = _wanted(purchase, accepted)
        if all(q.sample_id in accepted for q in wanted):
            log.info("%s: all labels are there", folder)
            return self.deliver(dataset, replace(purchase, queries=wanted), accepted, asked)
        predictions = load_predictions([purchase.predictions]) if purchase.predictions else None
        stop = purchase.allowance.amount if purchase.allowance.unit == "box" else None
        write_request(
            folder, dataset, items, accepted, predictions, self.one_based, self.min_confidence, stop, self.tool
        )
        raise AwaitingLabels(_message(folder, items, accepted, problems, stop))

    def exchange_folder(self, purchase: Purchase) -> Path:
        """Return the folder of one purchase; with a folder shared by several runs each has its own in it."""
        root = (
            purchase.run_dir / "to_label"
            if self.folder is None
            else self.folder / "-".join(purchase.run_dir.absolute().parts[-4:])
        )
        return root / ("initial" if purchase.cycle == INITIAL else f"cycle_{purchase.cycle:02d}")

    def _from_store(self, dataset: Any, purchase: Purchase, known: Set[str]) -> dict[str, Annotation]:
        """Return what people labeled before, for any run, of images this purchase still lacks; it is kept at once."""
        lacking = [q.sample_id for q in purchase.queries if q.sample_id not in known]
        if self.store is None or not lacking:
            return {}
        found = {
            i: label for i, stored in stored_labels(self.store, dataset, lacking).items()
            if (label := stored.seen_by(dataset.classes)) is not None
        }  # fmt: skip
        if found:
            log.info(
                "%d of %d images were labeled before (%s): nobody is asked for them again",
                len(found), len(purchase.queries), self.store.folder,
            )  # fmt: skip
        return found

    def _collect(
        self,
        folder: Path,
        items: Sequence[Item],
        dataset: Any,
        purchase: Purchase,
        accepted: dict[str, Annotation],
        asked: dict[str, float | None],
    ) -> list[str]:
        """Take over what is correct, extending ``accepted`` and ``asked``; return what is wrong."""
        answers = Answers()
        if (folder / "labels").is_dir():
            answers = read_answers(folder / "labels", items, dataset.classes, self.one_based, self.empty_is_answer)
        accepted |= answers.annotations
        for sample_id, annotation in answers.annotations.items():
            asked[sample_id] = answers.seconds.get(sample_id)
            if self.store is not None:
                digest = sha256(dataset.image_path(sample_id))
                self.store.add(digest, dataset.classes, annotation, asked[sample_id], answers.sources[sample_id])
        if accepted:
            rows = (seal({"id": i, "annotation": a.to_json()}) for i, a in accepted.items())
            rows = (
                r | ({"asked": True, "seconds": asked[r["id"]]} if r["id"] in asked else {"asked": False}) for r in rows
            )
            write_text(_accepted_path(purchase), "".join(f"{json.dumps(row)}\n" for row in rows))
        empty = sum(len(a.labels) == 0 for a in answers.annotations.values())
        if empty:
            log.info("%s: %d images are said to show no object", folder / "labels", empty)
        for note in answers.notes:
            log.warning("%s", note)
        for problem in answers.problems:
            log.warning("not taken over: %s", problem)
        if answers.problems:
            write_text(folder / "problems.txt", "".join(f"{problem}\n" for problem in answers.problems))
        else:
            (folder / "problems.txt").unlink(missing_ok=True)
        return answers.problems


def _state_of(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Return what tells whether somebody put something into a folder, or changed it."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file()) if folder.is_dir() else ()
    return tuple((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files)


def _read_asked(purchase: Purchase) -> dict[str, float | None]:
    """Return who was labeled for this purchase, and in what time where that is known.

    Raises:
        ResumeError: if somebody changed the file into something else.
    """
    path = _accepted_path(purchase)
    if not path.is_file():
        return {}
    rows = Source(path, "labels that were taken over", _DO, ResumeError).read_rows()
    seconds = optional(not_negative)
    # Rows without the field are of a version that knew no store: all were asked for.
    return {r.read("id", text): r.read("seconds", seconds, None) for r in rows if r.read("asked", flag, True)}


def _accepted_path(purchase: Purchase) -> Path:
    return purchase.folder / "accepted.jsonl"


def _read_accepted(purchase: Purchase) -> dict[str, Annotation]:
    """Read what earlier calls took over, in the order of the queries.

    Raises:
        ResumeError: if somebody changed the file into something else.
    """
    path = _accepted_path(purchase)
    stored = read_annotations(path, do=_DO) if path.is_file() else {}
    return {q.sample_id: stored[q.sample_id] for q in purchase.queries if q.sample_id in stored}


def _wanted(purchase: Purchase, accepted: Mapping[str, Annotation]) -> tuple[Query, ...]:
    """Return the queries whose labels are needed: all, or with a budget of boxes those up to where it ends."""
    if purchase.allowance.unit != "box":
        return purchase.queries
    boxes = 0
    for count, query in enumerate(purchase.queries, 1):
        if query.sample_id not in accepted:
            return purchase.queries
        boxes += len(accepted[query.sample_id].labels)
        if boxes >= purchase.allowance.amount:
            return purchase.queries[:count]
    return purchase.queries


def _message(
    folder: Path, items: Sequence[Item], accepted: Mapping[str, Annotation], problems: Sequence[str], stop: int | None
) -> str:
    """Say how many files are awaited where, and what was wrong with those that came."""
    missing = sum(item.sample_id not in accepted for item in items)
    lines = [
        f"{missing} of {len(items)} images wait for labels: images, lists and instructions are in {folder}",
        f"put what your tool exports into {folder / 'labels'}, then run the same command again",
    ]
    if stop is not None:
        lines.append(f"label in the order of list.txt; {stop} boxes are enough")
    if accepted:
        lines.append(f"{len(accepted)} images are labeled and kept; they will not be asked for again")
    if problems:
        rest = f" (all of them are in {folder / 'problems.txt'})" if len(problems) > _PROBLEMS_SHOWN else ""
        lines.append(f"{len(problems)} could not be taken over{rest}:")
        lines.extend(f"  - {problem}" for problem in problems[:_PROBLEMS_SHOWN])
    return "\n".join(lines)
