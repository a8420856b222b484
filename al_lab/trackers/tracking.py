"""Trackers copy the run folder to dashboards.

The folder is the truth; a dashboard that fails costs a warning, never a campaign.
"""

import hashlib
import io
import logging
import math
import netrc
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlparse

import yaml
from PIL import Image

from al_lab.core.fields import one_of
from al_lab.core.files import write_text
from al_lab.trackers.selection import MAX_IMAGES, Row, class_counts, class_name, drawn, picture_of, utilities_of

log = logging.getLogger(__name__)

_SPENT_OF_UNIT = {
    "image": "spent_images",
    "box": "spent_boxes",
    "pixel": "spent_pixels",
    "region": "spent_pixels",
    "segment": "spent_clicks",
}

MAX_STEPS = 1000  # of one training
Steps = Mapping[str, Sequence[float]]  # ``step`` and what was logged at each
Classes = Mapping[str, Mapping[str, float]]  # metric -> class -> value


class Tracker:
    """What a campaign tells the world.

    Subclasses fill in the ``_on_`` methods; whatever these raise is logged and swallowed.

    A tracker that can't start stays silent for the rest of the run; one call that fails leaves the others working.
    """

    def __init__(self) -> None:
        self._is_on = False
        self.run_dir = Path()
        self.config: Mapping[str, Any] = {}

    def start(self, run_dir: Path, config: Mapping[str, Any]) -> None:
        """Begin, or go on with, the record of a campaign.

        Args:
            run_dir: the campaign's folder; the record's identity follows from it.
            config: the resolved configuration.
        """
        self.run_dir, self.config = Path(run_dir).resolve(), config
        self._is_on = self._guarded("start", self._on_start)

    def log_stage(self, key: str, scalars: Mapping[str, float], seconds: float) -> None:
        """Log a committed stage, ``02/train``."""
        values = {k: float(v) for k, v in scalars.items() if isinstance(v, int | float) and math.isfinite(v)}
        self._when_on("log_stage", lambda: self._on_stage(key, values, float(seconds)))

    def log_cycle(self, cycle: int, metrics: Mapping[str, float]) -> None:
        """Log a row of metrics.jsonl against the labels bought so far, in the budget's own unit."""
        values = {k: float(v) for k, v in metrics.items() if isinstance(v, int | float) and math.isfinite(v)}
        values["spent"] = self._spent(cycle, values)
        self._when_on("log_cycle", lambda: self._on_cycle(cycle, values))

    def log_steps(self, cycle: int, steps: Steps) -> None:
        """Log a cycle's training step by step, at most `MAX_STEPS` of them, evenly spread."""
        self._when_on("log_steps", lambda: self._on_steps(cycle, thinned(steps)))

    def log_classes(self, cycle: int, metrics: Mapping[str, float], classes: Classes) -> None:
        """Log the metrics of each class against what was spent; ``metrics`` as for `log_cycle`."""
        self._when_on("log_classes", lambda: self._on_classes(self._spent(cycle, metrics), classes))

    def _spent(self, cycle: int, metrics: Mapping[str, float]) -> float:
        """Return what was spent, in the budget's own unit."""
        unit = (self.config.get("budget") or {}).get("unit", "image")
        return metrics.get(_SPENT_OF_UNIT.get(unit, "spent_images"), metrics.get("num_labeled", float(cycle)))

    def log_selection(self, cycle: int, rows: Sequence[Row]) -> None:
        """Log the images bought at the end of a cycle, the first `MAX_IMAGES` of them in rank order."""
        self._when_on("log_selection", lambda: self._on_selection(cycle, list(rows[:MAX_IMAGES])))

    def finish(self) -> None:
        """Close the record; `start` opens it again."""
        self._when_on("finish", self._on_finish)
        self._is_on = False

    def _when_on(self, what: str, action: Callable[[], None]) -> None:
        if self._is_on:
            self._guarded(what, action)

    def _guarded(self, what: str, action: Callable[[], None]) -> bool:
        try:
            action()
        except Exception as error:  # a dashboard may fail in any way it likes
            log.warning(
                "%s.%s failed, the campaign goes on without it: %s: %s",
                type(self).__name__,
                what,
                type(error).__name__,
                error,
            )
            log.debug("details", exc_info=True)
            return False
        return True

    @property
    def step(self) -> int:
        """Number of stages committed so far: it grows through a resume, as a dashboard's step has to."""
        path = self.run_dir / "ledger.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def _on_start(self) -> None:
        """Open the record."""

    def _on_stage(self, key: str, scalars: Mapping[str, float], seconds: float) -> None:
        """Record a stage."""

    def _on_cycle(self, cycle: int, metrics: Mapping[str, float]) -> None:
        """Record a cycle."""

    def _on_steps(self, cycle: int, steps: Steps) -> None:
        """Record a training."""

    def _on_classes(self, spent: float, classes: Classes) -> None:
        """Record the classes of an evaluation."""

    def _on_selection(self, cycle: int, rows: Sequence[Row]) -> None:
        """Record a selection."""

    def _on_finish(self) -> None:
        """Close the record."""


class Several(Tracker):
    """Several trackers at once; one that fails doesn't hide the others."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        super().__init__()
        self.trackers = list(trackers)

    def start(self, run_dir: Path, config: Mapping[str, Any]) -> None:
        """See `Tracker.start`."""
        for tracker in self.trackers:
            tracker.start(run_dir, config)

    def log_stage(self, key: str, scalars: Mapping[str, float], seconds: float) -> None:
        """See `Tracker.log_stage`."""
        for tracker in self.trackers:
            tracker.log_stage(key, scalars, seconds)

    def log_cycle(self, cycle: int, metrics: Mapping[str, float]) -> None:
        """See `Tracker.log_cycle`."""
        for tracker in self.trackers:
            tracker.log_cycle(cycle, metrics)

    def log_steps(self, cycle: int, steps: Steps) -> None:
        """See `Tracker.log_steps`."""
        for tracker in self.trackers:
            tracker.log_steps(cycle, steps)

    def log_classes(self, cycle: int, metrics: Mapping[str, float], classes: Classes) -> None:
        """See `Tracker.log_classes`."""
        for tracker in self.trackers:
            tracker.log_classes(cycle, metrics, classes)

    def log_selection(self, cycle: int, rows: Sequence[Row]) -> None:
        """See `Tracker.log_selection`."""
        for tracker in self.trackers:
            tracker.log_selection(cycle, rows)

    def finish(self) -> None:
        """See `Tracker.finish`."""
        for tracker in self.trackers:
            tracker.finish()


class WandbTracker(Tracker):
    """Weights & Biases: one run per campaign, gone on with when the campaign is.

    Args:
        project: W&B project.
        entity: user or team; None: the account's own.
        mode: ``auto`` is online with a key and offline without one; ``offline`` writes below the run folder, for
            ``wandb sync`` later; ``online`` falls back to offline, with a warning, when there is no key.
        tags: labels of the run.
    """

    def __init__(
        self,
        project: str = "al_lab",
        entity: str | None = None,
        mode: Literal["auto", "online", "offline", "disabled"] = "auto",
        tags: Sequence[str] = (),
    ) -> None:
        super().__init__()
        do = "use tracker.mode=auto: it works with and without an account"
        one_of("auto", "online", "offline", "disabled")(mode, "tracker.mode", do=do)
        self.project, self.entity, self.mode, self.tags = project, entity, mode, tuple(tags)
        self.run: Any = None
        self._is_data_dir_ours = False

    def _on_start(self) -> None:
        import wandb  # noqa: PLC0415 - an extra, and 0.7 s

        # Offline, the images of tables would lie in the home folder; beside the run they can be moved and uploaded with
        # it.
        self._is_data_dir_ours = "WANDB_DATA_DIR" not in os.environ
        if self._is_data_dir_ours:
            os.environ["WANDB_DATA_DIR"] = str(self.run_dir / "wandb" / "data")
        parts = self.run_dir.parts  # …/<dataset>/<strategy>/<name>/seed<k>
        self.run = wandb.init(
            project=self.project,
            entity=self.entity,
            id=run_id(self.run_dir),
            name="/".join(parts[-3:]),
            group="/".join(parts[-4:-2]),
            tags=self.tags,
            resume="allow",
            mode=self._mode(),
            dir=str(self.run_dir),
            config=dict(self.config),
            reinit="finish_previous",
            settings=wandb.Settings(console="off", silent=True, disable_code=True, disable_git=True),
        )
        # Every chart of a cycle is drawn against what was paid, not against wandb's own counter.
        self.run.define_metric("cycle/spent", hidden=True)
        self.run.define_metric("cycle/*", step_metric="cycle/spent")
        self.run.define_metric("class/*", step_metric="cycle/spent")

    def _mode(self) -> Literal["online", "offline", "disabled"]:
        if self.mode in ("offline", "disabled"):
            return self.mode
        wanted = os.environ.get("WANDB_MODE")
        if self.mode == "auto" and wanted in ("online", "offline", "disabled"):
            return cast(Literal["online", "offline", "disabled"], wanted)
        if _has_key():
            return "online"
        level = logging.WARNING if self.mode == "online" else logging.INFO
        log.log(
            level,
            "W&B has no API key here: writing offline to %s (upload it later: `wandb login`, `wandb sync`)",
            self.run_dir / "wandb",
        )
        return "offline"

    def _on_stage(self, key: str, scalars: Mapping[str, float], seconds: float) -> None:
        name = key.split("/", 1)[-1]
        self.run.log(
            {f"stage/{name}/seconds": seconds, **{f"stage/{name}/{k}": v for k, v in scalars.items()}}, step=self.step
        )

    def _on_cycle(self, cycle: int, metrics: Mapping[str, float]) -> None:
        self.run.log(
            {f"cycle/{k}": v for k, v in metrics.items() if k != "cycle"} | {"cycle/number": cycle}, step=self.step
        )

    def _on_steps(self, cycle: int, steps: Steps) -> None:
        import wandb  # noqa: PLC0415

        # A chart, not thousands of steps: W&B's own step is the number of committed stages, which a resume goes on
        # with.
        names = [n for n in steps if n != "step"]
        number = steps.get("step", ())
        table = wandb.Table(
            columns=["step", *names], data=[list(row) for row in zip(number, *(steps[n] for n in names), strict=True)]
        )
        charts = {
            f"train/cycle_{cycle:02d}/{n}": wandb.plot.line(table, "step", n, title=f"cycle {cycle}: {n}")
            for n in names
            if "loss" in n
        }
        self.run.log(charts, step=self.step)

    def _on_classes(self, spent: float, classes: Classes) -> None:
        values = {f"class/{metric}/{name}": v for metric, found in classes.items() for name, v in found.items()}
        self.run.log(values | {"cycle/spent": spent}, step=self.step)

    def _on_selection(self, cycle: int, rows: Sequence[Row]) -> None:
        import wandb  # noqa: PLC0415

        table = wandb.Table(columns=["cycle", "rank", "id", "utility", "objects", "image"])
        for rank, row in enumerate(rows):
            table.add_data(
                cycle, rank, str(row["id"]), row.get("utility"), len(row.get("labels", ())), self._image(wandb, row)
            )
        utilities = utilities_of(rows)
        values: dict[str, Any] = {"select/images": table}
        if len(utilities):
            values |= {
                "select/mean_utility": float(utilities.mean()),
                "select/utilities": wandb.Histogram(utilities.tolist()),
            }
        values |= {f"select/class_hist/{name}": count for name, count in class_counts(rows).items()}
        self.run.log(values, step=self.step)

    @staticmethod
    def _image(wandb: Any, row: Row) -> Any:
        picture, scale = picture_of(row)
        if picture is None:
            return None
        corners = ("minX", "minY", "maxX", "maxY")
        boxes = [
            {
                "position": dict(zip(corners, (float(v) * scale for v in box), strict=True)),
                "domain": "pixel",
                "class_id": int(label),
                "box_caption": class_name(row, label),
            }
            for box, label in zip(row.get("boxes_xyxy", ()), row.get("labels", ()), strict=False)
        ]
        listed: dict[Any, Any] = dict(enumerate(map(str, row.get("classes", ()))))
        names = listed or {b["class_id"]: b["box_caption"] for b in boxes}
        return wandb.Image(
            picture, boxes={"bought": {"box_data": boxes, "class_labels": names}} if boxes else None, file_type="jpg"
        )

    def _on_finish(self) -> None:
        self.run.finish()
        if self._is_data_dir_ours:  # a sweep's next campaign has its own
            os.environ.pop("WANDB_DATA_DIR", None)


class TensorBoardTracker(Tracker):
    """TensorBoard event files in ``tensorboard/`` of the run folder; needs the tensorboard package, not torch."""

    def __init__(self) -> None:
        super().__init__()
        self._writer: Any = None

    def _on_start(self) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter  # noqa: PLC0415

        self._writer = EventFileWriter(str(self.run_dir / "tensorboard"))
        self._text("configuration", yaml.safe_dump(dict(self.config), sort_keys=False, allow_unicode=True))

    def _on_stage(self, key: str, scalars: Mapping[str, float], seconds: float) -> None:
        cycle, _, name = key.partition("/")
        self._scalars(
            {f"stage/{name}/seconds": seconds, **{f"stage/{name}/{k}": v for k, v in scalars.items()}}, int(cycle)
        )

    def _on_cycle(self, cycle: int, metrics: Mapping[str, float]) -> None:
        # The step of a cycle's charts is what was paid, as in W&B.
        self._scalars({f"cycle/{k}": v for k, v in metrics.items() if k != "cycle"}, int(metrics["spent"]))

    def _on_steps(self, cycle: int, steps: Steps) -> None:
        for k, step in enumerate(steps.get("step", ())):
            self._scalars({f"train/cycle_{cycle:02d}/{n}": v[k] for n, v in steps.items() if n != "step"}, int(step))

    def _on_classes(self, spent: float, classes: Classes) -> None:
        values = {f"class/{metric}/{name}": v for metric, found in classes.items() for name, v in found.items()}
        self._scalars(values, int(spent))

    def _on_selection(self, cycle: int, rows: Sequence[Row]) -> None:
        utilities = utilities_of(rows)
        self._scalars(
            {f"select/class_hist/{k}": float(v) for k, v in class_counts(rows).items()}
            | ({"select/mean_utility": float(utilities.mean())} if len(utilities) else {}),
            cycle,
        )
        for rank, row in enumerate(rows):
            picture, scale = picture_of(row)
            if picture is not None:
                self._picture(f"select/{rank:02d}", drawn(picture, row, scale), cycle)
        self._writer.flush()

    def _scalars(self, values: Mapping[str, float], step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary  # noqa: PLC0415

        self._add(Summary(value=[Summary.Value(tag=k, simple_value=v) for k, v in values.items()]), step)

    def _picture(self, tag: str, picture: Image.Image, step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary  # noqa: PLC0415

        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=85)
        image = Summary.Image(
            encoded_image_string=stream.getvalue(), height=picture.height, width=picture.width, colorspace=3
        )
        self._add(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    def _text(self, tag: str, text: str) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary  # noqa: PLC0415
        from tensorboard.compat.proto.tensor_pb2 import TensorProto  # noqa: PLC0415
        from tensorboard.plugins.text.metadata import create_summary_metadata  # noqa: PLC0415

        indented = "".join(f"    {line}\n" for line in text.splitlines())  # markdown's way to say: as it stands
        tensor = TensorProto(dtype="DT_STRING", string_val=[indented.encode()])
        metadata = create_summary_metadata(display_name=tag, description="")
        self._add(Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)]), 0)

    def _add(self, summary: Any, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event  # noqa: PLC0415

        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
        self._writer.flush()

    def _on_finish(self) -> None:
        self._writer.close()


def thinned(steps: Steps) -> dict[str, list[float]]:
    """Return at most `MAX_STEPS` steps, evenly spread, the first and the last among them."""
    length = min((len(v) for v in steps.values()), default=0)
    count = min(length, MAX_STEPS)
    keep = [round(k * (length - 1) / max(1, count - 1)) for k in range(count)]
    return {name: [float(values[k]) for k in keep] for name, values in steps.items()}


def run_id(run_dir: Path) -> str:
    """Return the id of a campaign's record.

    It is kept in the run folder, so a resumed campaign (or one whose folder was moved) goes on with its own record, and
    one begun anew with restart at the same path doesn't.
    """
    path = Path(run_dir) / "wandb_id"
    if path.exists():
        return path.read_text().strip()
    made = hashlib.sha256(f"{Path(run_dir).resolve()}:{time.time_ns()}".encode()).hexdigest()[:12]
    write_text(path, made + "\n")
    return made


def _has_key() -> bool:
    """Whether W&B has been logged in to here; nothing is asked of the network, and the key itself is not looked at."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
