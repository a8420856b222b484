"""A model that is known by its predictions: people train it elsewhere and hand them in, cycle by cycle."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from al_lab.core.errors import AwaitingPredictions, ConfigError, DataError, LabError, explain
from al_lab.core.fields import flag, one_of, positive
from al_lab.core.files import state_of, write_text
from al_lab.learners.base import FitTask
from al_lab.learners.foreign.asked import Asked, write_asked
from al_lab.learners.foreign.bought import FORMATS, write_bought
from al_lab.learners.foreign.model import ForeignModel, box_reader, map_reader
from al_lab.learners.foreign.said import Said

log = logging.getLogger(__name__)

_SHOWN = 10


class PredictionsModel(ForeignModel):
    """Writes what was bought, says which images are to be predicted, waits, and takes over what is right.

    Args:
        num_classes: given by the dataset.
        dataset: of the images.
        folder: where to exchange files; null: ``to_train/`` in the run folder.
        labels: of `FORMATS`: in which what was bought is written.
        images: link | copy | none: how images are handed out.
        wait: keep the command running until the predictions are there, instead of ending it.
        poll_seconds: how often a waiting command looks.
    """

    is_awaited: ClassVar[bool] = True
    where: ClassVar[str] = ""

    def __init__(
        self,
        num_classes: int,
        dataset: Any,
        folder: str | None = None,
        labels: str = "coco",
        images: Literal["link", "copy", "none"] = "link",
        wait: bool = False,
        poll_seconds: float = 5.0,
    ) -> None:
        del num_classes  # the classes are the dataset's
        self.dataset = dataset
        self.folder = Path(folder).expanduser() if folder else None
        known = FORMATS[-1:] if self.where == "segmenter" else FORMATS[:-1]
        self.labels = one_of(*known)(labels, f"{self.where}.labels")
        self.images: Literal["link", "copy", "none"] = one_of("link", "copy", "none")(images, f"{self.where}.images")
        self.wait = flag(wait, f"{self.where}.wait")
        self.poll_seconds = positive(poll_seconds, f"{self.where}.poll_seconds")
        self._found: tuple[Said, frozenset[str]] | None = None
        self._seen: tuple[tuple[str, int, int], ...] = ()

    def exchange_folder(self, task: FitTask) -> Path:
        """Return the folder of one cycle; with a folder shared by several runs each has its own in it."""
        run_dir = task.labels_dir.absolute()
        root = run_dir / "to_train" if self.folder is None else self.folder / "-".join(run_dir.parts[-4:])
        return root / f"cycle_{task.cycle:02d}"

    def take(self, task: FitTask, roles: Mapping[str, Sequence[str]], before: Path | None) -> dict[str, float]:
        """Ask for predictions, or take over those that are there as this cycle's model.

        Args:
            task: the training that somebody else does.
            roles: which images have to be predicted: those of the test set, of the pool.
            before: the model of the cycle before, whose predictions can't be this one's.

        Raises:
            AwaitingPredictions: as long as they are missing, or make no sense.
        """
        folder = self.exchange_folder(task)
        ids = list(dict.fromkeys(i for some in roles.values() for i in some))
        asked = write_asked(folder / "predict", self.dataset, ids, self.images)
        labels = write_bought(folder / "train", self.dataset, task, self.labels, self.images)
        (folder / "predictions").mkdir(exist_ok=True)
        write_text(folder / "README.txt", self._instructions(task, asked, labels, roles))
        self._seen = state_of(folder / "predictions")
        problems = []
        try:
            place = folder / "predictions"
            found = self.reader.read(place, asked, may_be_empty=False) if ids else self.reader.nothing()
            if found is not None:
                problems = self._problems(found, roles, before, place)
        except DataError as error:
            found, problems = None, str(error).splitlines()
        if problems:
            write_text(folder / "problems.txt", "".join(f"{problem}\n" for problem in problems))
        else:
            (folder / "problems.txt").unlink(missing_ok=True)
        if found is None or problems:
            raise AwaitingPredictions(self._message(folder, task, labels, roles, problems))
        for note in found.notes:
            log.warning("%s", note)
        found.save(task.checkpoint, ids)
        return {"num_labeled": float(len(task.labeled)), "predicted_images": float(len(ids)), **found.counts()}

    def _problems(self, found: Said, roles: Mapping[str, Sequence[str]], before: Path | None, place: Path) -> list[str]:
        problems = []
        for role, ids in roles.items():
            if ids and not any(map(found.spoken_of, ids)):
                expected, got = f"predictions of the {len(ids)} images of the {role}", "none of any"
                do = "predict all images of predict/images.txt, with a low threshold"
                problems.append(explain(expected=expected, got=got, where=str(place), do=do))
        if before is not None and before.is_file() and found.same_as(self.reader.open(before)[0]):
            do = "train with the labels in train/, predict again, and put the new files there"
            expected, got = "the predictions of a newly trained model", "exactly those of the cycle before"
            problems.append(explain(expected=expected, got=got, where=str(place), do=do))
        return problems

    def wait_for_news(self, task: FitTask) -> None:
        """Return when files came or changed, and no more come: what is half copied is not looked at."""
        place = self.exchange_folder(task) / "predictions"
        before = self._seen
        while True:
            time.sleep(self.poll_seconds)
            now = state_of(place)
            if now != self._seen and now == before:
                return
            before = now

    def fit(self, task: FitTask) -> dict[str, float]:
        """Refuse: this model is fitted by nobody here.

        Raises:
            ConfigError: always.
        """
        do = "choose a strategy that trains nothing by itself"
        expected, got = "a model that can be trained by a job", "one that people hand in"
        raise ConfigError(explain(expected=expected, got=got, where=f"{self.where}=predictions", do=do))

    def load(self, checkpoint: Path) -> None:
        """Read the predictions that are this model."""
        said, asked = self.reader.open(checkpoint)
        self._found = said, asked
        self.provides = said.provides()

    def _views(self, ids: Sequence[str], needs: Sequence[str]) -> Iterator[Any]:
        if self._found is None:
            do = "call load(checkpoint) first"
            raise ConfigError(explain(expected="predictions", got="none", where="learner.views", do=do))
        said, asked = self._found
        lacking = [i for i in ids if i not in asked]
        if lacking:
            got = f"predictions without {len(lacking)} of them, the first {lacking[0]!r}"
            do = "delete this cycle's model.ckpt and give the same command again: it asks for all of them"
            raise LabError(explain(expected=f"predictions of {len(ids)} images", got=got, where=self.where, do=do))
        return said.views(ids, needs)

    def _instructions(self, task: FitTask, asked: Asked, labels: Path, roles: Mapping[str, Sequence[str]]) -> str:
        parts = [
            f"Cycle {task.cycle}: train your model on what was bought so far, predict, and put the predictions into "
            "predictions/.",
            f"train/ holds {len(task.labeled)} labeled images, and their labels ({self.labels}): {labels}. Class names "
            "stand in predict/classes.txt, in the order of their numbers.",
            f"predict/ holds the {len(asked.ids)} images to predict ({_counted(roles)}): images.txt lists them, "
            "images.json is a COCO document that gives each an id.",
            self._wanted(),
            "Then run the same command again. problems.txt says what could not be taken over.",
        ]
        return "\n\n".join(parts) + "\n"

    def _wanted(self) -> str:
        raise NotImplementedError

    def _message(
        self, folder: Path, task: FitTask, labels: Path, roles: Mapping[str, Sequence[str]], problems: Sequence[str]
    ) -> str:
        lines = [
            f"predictions of cycle {task.cycle} are awaited: train your model on {len(task.labeled)} labeled images "
            f"({labels}), then predict {_counted(roles)} ({folder / 'predict' / 'images.txt'})",
            f"put the predictions into {folder / 'predictions'}, then run the same command again; "
            f"{folder / 'README.txt'} says more",
        ]
        if problems:
            rest = f" (all of them are in {folder / 'problems.txt'})" if len(problems) > _SHOWN else ""
            lines += [f"what is there could not be taken over{rest}:", *(f"  - {p}" for p in problems[:_SHOWN])]
        return "\n".join(lines)


def _counted(roles: Mapping[str, Sequence[str]]) -> str:
    return " and ".join(f"{len(ids)} images of the {role}" for role, ids in roles.items() if ids)


class PredictionsDetector(PredictionsModel):
    """A detector; see `PredictionsModel`.

    Args:
        num_classes: given by the dataset.
        dataset: of the images.
        embeddings: predictions come with an embedding of each image (.npz).
        distributions: they come with whole class distributions (.npz); else a box's confidence is all that is known.
        first_category: what number the first class has, where no file tells.
    """

    where: ClassVar[str] = "detector"
    provides = ("detections", "class_probs")
    provides_with: ClassVar[dict[str, dict[Any, tuple[str, ...]]]] = {"embeddings": {True: ("image_embedding",)}}

    def __init__(
        self,
        num_classes: int,
        dataset: Any,
        embeddings: bool = False,
        distributions: bool = False,
        first_category: int | None = None,
        **exchange: Any,
    ) -> None:
        super().__init__(num_classes=num_classes, dataset=dataset, **exchange)
        self.reader = box_reader(dataset, embeddings, distributions, first_category)

    def _wanted(self) -> str:
        return (
            "Predictions may be COCO results (.json), YOLO text with confidence (a folder), a table (.csv: "
            "file,class,x1,y1,x2,y2,confidence), Label Studio's JSON, or arrays (.npz) with whole class distributions "
            "and embeddings. Predict with a low threshold: in an image that no file speaks of nothing was found."
        )


class PredictionsSegmenter(PredictionsModel):
    """A segmenter; see `PredictionsModel`, and `MapReader` for the files.

    Args:
        num_classes: given by the dataset.
        dataset: of the images.
        maps: probabilities | labels: label maps serve evaluation and strategies that look at no probabilities.
        embeddings: predictions come with an embedding of each image (.npz).
    """

    where: ClassVar[str] = "segmenter"
    provides_with: ClassVar[dict[str, dict[Any, tuple[str, ...]]]] = {
        "maps": {"probabilities": ("dense_probs", "class_probs")},
        "embeddings": {True: ("image_embedding",)},
    }

    def __init__(
        self,
        num_classes: int,
        dataset: Any,
        maps: Literal["probabilities", "labels"] = "probabilities",
        embeddings: bool = False,
        labels: str = "masks",
        **exchange: Any,
    ) -> None:
        super().__init__(num_classes=num_classes, dataset=dataset, labels=labels, **exchange)
        self.reader = map_reader(dataset, maps, embeddings)

    def _wanted(self) -> str:
        return (
            "Predictions are a file an image, named like it: <name>.npy with class probabilities (C, h, w), or "
            "<name>.npz with 'probs'; with maps: labels <name>.png whose pixels are class numbers. Embeddings are an "
            ".npz with 'images' and 'embedding'."
        )
