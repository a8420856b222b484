"""A model that commands train and ask: any program in any framework, run by jobs wherever the campaign runs them."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from al_lab.core.errors import ConfigError, DataError, JobError, WeightsError, explain
from al_lab.core.fields import flag, one_of, optional, positive, text
from al_lab.core.files import atomic_path
from al_lab.learners.base import FitTask
from al_lab.learners.foreign.asked import write_asked
from al_lab.learners.foreign.bought import FORMATS, write_bought
from al_lab.learners.foreign.model import ForeignModel, box_reader, map_reader
from al_lab.learners.foreign.process import check_template, command_words, run_command
from al_lab.learners.foreign.said import Said
from al_lab.learners.trainer import this_device

_TRAIN = ("data", "labels", "out", "seed", "checkpoint", "device", "init", "python")
_PREDICT = ("data", "images", "out", "checkpoint", "device", "python")
_SEEDS = 2**31  # most programs take no larger seed


class CommandModel(ForeignModel):
    """Trains by one command, answers by another; commands are split as a shell does and run without a shell.

    | word | train | predict |
    |---|---|---|
    | ``{data}`` | ``train/images`` and the labels | folder with ``images/``, ``images.json``, ``images.txt`` |
    | ``{labels}`` | the labels: a file or folder of the format | |
    | ``{images}`` | | ``images.txt``: a path a line |
    | ``{checkpoint}`` | the file that it has to write | the file that training wrote, under its name |
    | ``{out}`` | an empty folder, for whatever else it writes | the same: predictions go there |
    | ``{seed}`` | of this training, below 2^31 | |
    | ``{init}`` | what it begins with, see ``init`` | |
    | ``{device}`` | ``cpu`` or ``cuda`` | the same |
    | ``{python}`` | this interpreter | the same |

    Args:
        num_classes: given by the dataset.
        dataset: of the images.
        train: the command that trains.
        predict: the command that says what the model sees.
        labels: of `FORMATS`: in which the training gets what was bought.
        checkpoint: below ``{out}`` of the training: the file that is the model, or with a slash at its end the folder.
        predictions: below ``{out}`` of the prediction: a file or a folder; null: all that is there.
        init: what ``{init}`` is in the first cycle, and with ``start=scratch`` in every cycle.
        start: scratch | weights: whether ``{init}`` is the last cycle's model afterwards.
        device: what ``{device}`` is; null: cuda where this job was given a GPU, else cpu.
        train_minutes: after which a training is ended; null: never.
        predict_minutes: the same of a prediction.
        resumes: what a killed training left in ``{out}`` stays there: the command goes on from it by itself.
    """

    where: ClassVar[str] = ""

    def __init__(
        self,
        num_classes: int,
        dataset: Any,
        train: str,
        predict: str,
        labels: str = "coco",
        checkpoint: str = "model.pt",
        predictions: str | None = None,
        init: str | None = None,
        start: Literal["scratch", "weights"] = "scratch",
        device: str | None = None,
        train_minutes: float | None = 1440,
        predict_minutes: float | None = 240,
        resumes: bool = False,
    ) -> None:
        del num_classes  # the classes are the dataset's
        where = self.where
        check_template(train, _TRAIN, f"{where}.train")
        check_template(predict, _PREDICT, f"{where}.predict")
        self.dataset, self.train, self.predict = dataset, train, predict
        known = FORMATS[-1:] if where == "segmenter" else FORMATS[:-1]
        self.labels = one_of(*known)(labels, f"{where}.labels")
        for name, place in (("checkpoint", checkpoint), ("predictions", predictions)):
            if name == "checkpoint" or place is not None:
                _check_below(place, f"{where}.{name}")
        self.checkpoint, self.predictions = checkpoint, predictions
        self.init, self.start = init, one_of("scratch", "weights")(start, f"{where}.start")
        if "{init}" in train and init is None:
            do = f"say what the first training begins with: {where}.init=yolo11n.pt, say"
            raise ConfigError(explain(expected="init", got="null", where=f"{where}.train has {{init}}", do=do))
        self.device = optional(text)(device, f"{where}.device")
        self.train_minutes = optional(positive)(train_minutes, f"{where}.train_minutes")
        self.predict_minutes = optional(positive)(predict_minutes, f"{where}.predict_minutes")
        self.resumes = flag(resumes, f"{where}.resumes")
        self._model: Path | None = None

    def fit(self, task: FitTask) -> dict[str, float]:
        """Write what was bought, run the training command, take its model; see `Learner.fit`.

        Raises:
            JobError: if it fails, takes too long, or ends without a model.
        """
        home, out = task.scratch_dir / "data", task.scratch_dir / "out"
        if not self.resumes:
            shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True, exist_ok=True)
        labels = write_bought(home, self.dataset, task, self.labels)
        result = out / self.checkpoint
        result.parent.mkdir(parents=True, exist_ok=True)
        init = self.init
        if task.start != "scratch" and task.init_checkpoint is not None:
            init = str(self._unpacked(task.init_checkpoint, task.scratch_dir / "init"))
        values = {
            "data": home.absolute(),
            "labels": labels.absolute(),
            "out": out.absolute(),
            "seed": task.seed % _SEEDS,
            "checkpoint": result.absolute(),
            "device": self._device(),
            "init": init,
        }
        log = _folder(task.checkpoint) / "train.log"
        run_command(command_words(self.train, values), log, self.train_minutes, f"{self.where}.train")
        self._take(result, task.checkpoint, log)
        return {"num_labeled": float(len(task.labeled))}

    def load(self, checkpoint: Path) -> None:
        """See `Learner.load`."""
        if not checkpoint.is_file():
            do = "train it first"
            raise WeightsError(explain(expected="a model", got="no such file", where=str(checkpoint), do=do))
        self._model = checkpoint

    def _views(self, ids: Sequence[str], needs: Sequence[str]) -> Iterator[Any]:
        """Run the prediction command on these images and read what it wrote.

        Raises:
            JobError: if it fails, takes too long, or ends without predictions.
            DataError: for predictions that make no sense.
        """
        if self._model is None:
            do = "call load(checkpoint) first"
            raise ConfigError(explain(expected="a trained model", got="none", where="learner.views", do=do))
        if not ids:
            return
        name = f"predict_{hashlib.sha256(chr(10).join(ids).encode()).hexdigest()[:10]}"
        scratch, log = _folder(self._model) / name, _folder(self._model) / f"{name}.log"
        shutil.rmtree(scratch, ignore_errors=True)
        yield from self._ask(self._model, ids, scratch, log).views(ids, needs)
        shutil.rmtree(scratch, ignore_errors=True)  # maps are read when their image comes

    def _ask(self, model: Path, ids: Sequence[str], scratch: Path, log: Path) -> Said:
        out = scratch / "out"
        out.mkdir(parents=True)
        asked = write_asked(scratch / "data", self.dataset, ids)
        values = {
            "data": asked.folder.absolute(),
            "images": asked.list_path.absolute(),
            "out": out.absolute(),
            "checkpoint": self._unpacked(model, scratch / "model").absolute(),
            "device": self._device(),
        }
        run_command(command_words(self.predict, values), log, self.predict_minutes, f"{self.where}.predict")
        place = out if self.predictions is None else out / self.predictions
        where = f"{self.where}.predict (log: {log})"
        if not place.exists():
            do = f"let the command write them there, or correct {self.where}.predictions"
            raise JobError(explain(expected=f"predictions in {place}", got="no such file", where=where, do=do))
        try:
            found = self.reader.read(place, asked, may_be_empty=self.predictions is not None and place.is_dir())
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
        if found is None:
            do = "let the command write predictions into {out}"
            raise JobError(explain(expected=f"predictions in {place}", got="none", where=where, do=do))
        return found

    def _device(self) -> str:
        return self.device or this_device().type

    def _take(self, result: Path, checkpoint: Path, log: Path) -> None:
        """Make what the command wrote this cycle's model."""
        is_folder = self.checkpoint.endswith("/")
        there = result.is_dir() and any(result.iterdir()) if is_folder else result.is_file()
        if not there:
            got = "a folder" if result.is_dir() else "no such file"
            do = f"let the command write it to {{checkpoint}}, or say where it does: {self.where}.checkpoint"
            where = f"{self.where}.train (log: {log})"
            raise JobError(explain(expected=f"a model in {result}", got=got, where=where, do=do))
        with atomic_path(checkpoint) as temporary:
            if not is_folder:
                shutil.move(result, temporary)
                return
            with tarfile.open(temporary, "w") as archive:
                for path in sorted(p for p in result.rglob("*") if p.is_file()):
                    info = archive.gettarinfo(path, str(path.relative_to(result)))
                    info.mtime = info.uid = info.gid = 0
                    info.uname = info.gname = ""
                    with path.open("rb") as stream:
                        archive.addfile(info, stream)

    def _unpacked(self, model: Path, folder: Path) -> Path:
        """Return the model under the name that its program gave it: many programs look at the suffix."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        path = folder / Path(self.checkpoint).name
        if not self.checkpoint.endswith("/"):
            path.symlink_to(model.absolute())
            return path
        try:
            with tarfile.open(model) as archive:
                archive.extractall(path, filter="data")
        except (tarfile.TarError, OSError) as error:
            do = "train it again: delete the file"
            raise WeightsError(explain(expected="a packed folder", got=str(error), where=str(model), do=do)) from error
        return path


def _folder(checkpoint: Path) -> Path:
    """Return where logs and scratch of a cycle's commands lie."""
    return checkpoint.parent / "commands"


def _check_below(place: Any, where: str) -> None:
    path = Path(text(place, where))
    if path.is_absolute() or ".." in path.parts:
        do = "commands write below {out}"
        raise ConfigError(explain(expected="a place below {out}", got=repr(place), where=where, do=do))


class CommandDetector(CommandModel):
    """A detector; see `CommandModel` for the commands.

    Args:
        num_classes: given by the dataset.
        dataset: of the images.
        embeddings: the prediction also writes an embedding of each image (.npz).
        distributions: it writes whole class distributions (.npz); else a box's confidence is all that is known.
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
        **commands: Any,
    ) -> None:
        super().__init__(num_classes=num_classes, dataset=dataset, **commands)
        self.reader = box_reader(dataset, embeddings, distributions, first_category)
        self.provides = (*type(self).provides, *(("image_embedding",) if embeddings else ()))


class CommandSegmenter(CommandModel):
    """A segmenter; see `CommandModel` for the commands, `MapReader` for what the prediction writes.

    Args:
        num_classes: given by the dataset.
        dataset: of the images.
        maps: probabilities | labels: label maps serve evaluation and strategies that look at no probabilities.
        embeddings: the prediction also writes an embedding of each image (.npz).
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
        **commands: Any,
    ) -> None:
        super().__init__(num_classes=num_classes, dataset=dataset, labels=labels, **commands)
        self.reader = map_reader(dataset, maps, embeddings)
        dense = ("dense_probs", "class_probs") if maps == "probabilities" else ()
        self.provides = (*dense, *(("image_embedding",) if embeddings else ()))
