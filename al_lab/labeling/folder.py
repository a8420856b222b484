"""The oracle that is people: it asks through a folder and takes back what their tools export."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from al_lab.core.errors import ConfigError, explain
from al_lab.core.fields import between, one_of, optional
from al_lab.core.files import state_of, write_text
from al_lab.core.record.predictions import load_predictions
from al_lab.core.record.purchase import Purchase
from al_lab.labeling.answers import read_answers
from al_lab.labeling.boxes import stop_at_boxes
from al_lab.labeling.people import PeopleOracle, problem_lines
from al_lab.labeling.pixels.task import PIXEL_TOOLS, PixelTask
from al_lab.labeling.reader import Answers
from al_lab.labeling.request import TOOLS, Item, write_request
from al_lab.labeling.task import LabelTask, Taken


class FolderOracle(PeopleOracle):
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
        void_id: in masks of label maps, the id of what is not labeled; None: 255.
        tool: of `TOOLS`, for which files are written beside COCO and VOC.
        store, wait, poll_seconds: see `PeopleOracle`.
        seconds_per_image, seconds_per_box, seconds_per_pixel, seconds_per_map: see `Oracle`.
    """

    tasks = ("detection", "segmentation")

    def __init__(
        self,
        folder: str | None = None,
        min_confidence: float = 0.3,
        one_based: bool = True,
        empty_is_answer: bool | None = None,
        void_id: int | None = None,
        tool: str | None = None,
        store: str | None = None,
        wait: bool = False,
        poll_seconds: float = 5.0,
        seconds_per_image: float = 2.0,
        seconds_per_box: float = 7.0,
        seconds_per_pixel: float = 2.0,
        seconds_per_map: float = 5400.0,
    ) -> None:
        super().__init__(
            min_confidence,
            store,
            wait,
            poll_seconds,
            seconds_per_image=seconds_per_image,
            seconds_per_box=seconds_per_box,
            seconds_per_pixel=seconds_per_pixel,
            seconds_per_map=seconds_per_map,
        )
        self.folder = Path(folder) if folder else None
        self.one_based = one_based
        self.empty_is_answer = empty_is_answer
        self.void_id = optional(between(0, 255))(void_id, "oracle.void_id")
        self.tool = optional(one_of(*TOOLS))(tool, "oracle.tool")
        self._seen: tuple[tuple[str, int, int], ...] = ()
        self._task: PixelTask | None = None

    def check(self, dataset: Any) -> None:
        """See `Oracle.check`: not every tool's format holds label maps, and a class's id can't mean void as well."""
        super().check(dataset)
        if dataset.task != "segmentation":
            return
        if self.tool not in (None, *PIXEL_TOOLS):
            expected = f"a tool for label maps: {' | '.join(PIXEL_TOOLS)}"
            do = "choose one of them, or oracle.tool=null: masks as PNG come from any tool"
            raise ConfigError(explain(expected=expected, got=repr(self.tool), where="oracle.tool", do=do))
        if self.void_id is not None and self.void_id < len(dataset.classes):
            expected = f"an id that is no class's: {len(dataset.classes)}..255"
            got, do = f"{self.void_id}, which is {dataset.classes[self.void_id]!r}", "ids are those of class_table.csv"
            raise ConfigError(explain(expected=expected, got=got, where="oracle.void_id", do=do))

    def task_of(self, dataset: Any, purchase: Purchase) -> LabelTask[Any]:
        """See `PeopleOracle.task_of`."""
        if dataset.task != "segmentation":
            return super().task_of(dataset, purchase)
        if self._task is None or self._task.purchase is not purchase:
            self._task = PixelTask(dataset, purchase)
        return self._task

    def exchange_folder(self, purchase: Purchase) -> Path:
        """Return the folder of one purchase; with a folder shared by several runs each has its own in it."""
        root = (
            purchase.run_dir / "to_label"
            if self.folder is None
            else self.folder / "-".join(purchase.run_dir.absolute().parts[-4:])
        )
        return root / purchase.folder.name

    def place(self, purchase: Purchase) -> str:
        """See `PeopleOracle.place`."""
        return str(self.exchange_folder(purchase))

    def collect(self, dataset: Any, purchase: Purchase, items: Sequence[Item], taken: Taken[Any]) -> Answers[Any]:
        """Read all files of ``labels/``; what is wrong with them goes into ``problems.txt``."""
        del taken
        folder = self.exchange_folder(purchase)
        self._seen = state_of(folder / "labels")
        if not (folder / "labels").is_dir():
            return Answers()
        answers: Answers[Any]
        if isinstance(task := self.task_of(dataset, purchase), PixelTask):
            answers = task.read(folder / "labels", items, self.void_id)
        else:
            answers = read_answers(folder / "labels", items, dataset.classes, self.one_based, self.empty_is_answer)
        if answers.problems:
            write_text(folder / "problems.txt", "".join(f"{problem}\n" for problem in answers.problems))
        else:
            (folder / "problems.txt").unlink(missing_ok=True)
        return answers

    def ask(
        self, dataset: Any, purchase: Purchase, items: Sequence[Item], taken: Taken[Any], problems: Sequence[str]
    ) -> str:
        """Write the request, or bring it up to date."""
        folder, stop = self.exchange_folder(purchase), stop_at_boxes(purchase)
        if isinstance(task := self.task_of(dataset, purchase), PixelTask):
            task.ask(folder, items, taken, self.tool)
            return _message(folder, *task.open_words(items, taken), task.kept_words(taken), problems)
        predictions = load_predictions([purchase.predictions]) if purchase.predictions else None
        write_request(
            folder, dataset, items, taken.annotations, predictions, self.one_based, self.min_confidence, stop, self.tool
        )
        missing = sum(item.sample_id not in taken.annotations for item in items)
        hint = None if stop is None else f"label in the order of list.txt; {stop} boxes are enough"
        kept = f"{len(taken.annotations)} images are labeled" if taken.annotations else None
        return _message(folder, f"{missing} of {len(items)} images", hint, kept, problems)

    def wait_for_news(self, purchase: Purchase) -> None:
        """Return when somebody has put something into ``labels/``, or changed it."""
        while state_of(self.exchange_folder(purchase) / "labels") == self._seen:
            time.sleep(self.poll_seconds)


def _message(folder: Path, missing: str, hint: str | None, kept: str | None, problems: Sequence[str]) -> str:
    """Say how much is awaited where, and what was wrong with what came."""
    lines = [
        f"{missing} wait for labels: images, lists and instructions are in {folder}",
        f"put what your tool exports into {folder / 'labels'}, then run the same command again",
        *([hint] if hint else []),
    ]
    if kept:
        lines.append(f"{kept} and kept; they will not be asked for again")
    return "\n".join(lines + problem_lines(problems, f" (all of them are in {folder / 'problems.txt'})"))
