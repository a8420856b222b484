"""A second look at some images, for strategies that keep more of an image than one row of equal shape."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from al_lab.config.build import build
from al_lab.core.arrays import Column, load_arrays
from al_lab.core.budget import Allowance
from al_lab.core.errors import ResumeError, explain
from al_lab.core.files import atomic_path
from al_lab.core.pool import Pool
from al_lab.core.rng import Rng
from al_lab.core.stage import Stage, StageContext
from al_lab.core.strategy import Strategy
from al_lab.core.types import Candidates, ImageView
from al_lab.stages.jobs import open_learner
from al_lab.stages.sharding import remove_shards, run_sharded

FILE = "features.npz"
_COLUMNS = {
    "ids": Column("U", ("M",)),
    "count": Column("i", ("M",)),
    "label": Column("i", ("R",)),
    "confidence": Column("f", ("R",)),
    "feature": Column("f", ("R", None)),
}


@dataclass(frozen=True)
class Rows:
    """Some rows of each of M images, all in one table.

    Attributes:
        ids: of the images.
        start: (M + 1,) image m's rows are start[m] to start[m + 1].
        label: (R,) int64, a class.
        confidence: (R,) float32.
        feature: (R, F) float16, as it is stored.
    """

    ids: tuple[str, ...]
    start: np.ndarray
    label: np.ndarray
    confidence: np.ndarray
    feature: np.ndarray

    @classmethod
    def of_images(cls, parts: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> "Rows":
        """Return the table of images: id -> labels, confidences, features; an image without rows has a width, too."""
        if not parts:
            return cls.concat([])
        labels, confidences, features = zip(*parts.values(), strict=True)
        start = np.concatenate([[0], np.cumsum([len(values) for values in labels])])
        columns = [np.concatenate(values) for values in (labels, confidences, features)]
        return cls(
            tuple(parts),
            start,
            columns[0].astype(np.int64),
            columns[1].astype(np.float32),
            columns[2].astype(np.float16),
        )

    @classmethod
    def concat(cls, parts: Sequence["Rows"]) -> "Rows":
        """Join the tables of different images."""
        if not parts:
            return cls(
                (), np.zeros(1, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros((0, 0), np.float16)
            )
        counts = np.concatenate([np.diff(part.start) for part in parts])
        return cls(
            tuple(i for part in parts for i in part.ids),
            np.concatenate([[0], np.cumsum(counts)]),
            *(np.concatenate([getattr(p, name) for p in parts]) for name in ("label", "confidence", "feature")),
        )

    def of(self, ids: Sequence[str]) -> "Rows":
        """Return the rows of some images, in this order; those that were not looked at have none."""
        place = {i: n for n, i in enumerate(self.ids)}
        bounds = [(int(a), int(b)) for a, b in zip(self.start[:-1], self.start[1:], strict=True)]
        pairs = [bounds[place[i]] if i in place else (0, 0) for i in ids]
        rows = np.concatenate([np.zeros(0, np.int64), *(np.arange(a, b) for a, b in pairs)])
        start = np.concatenate([[0], np.cumsum([b - a for a, b in pairs])]).astype(np.int64)
        return Rows(tuple(ids), start, self.label[rows], self.confidence[rows], self.feature[rows])

    def save(self, path: Path) -> None:
        """Write an ``.npz`` atomically."""
        columns: dict[str, Any] = {
            "ids": np.asarray(self.ids, dtype=np.str_),
            "count": np.diff(self.start),
            "label": self.label,
            "confidence": self.confidence,
            "feature": self.feature,
        }
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **columns)

    @classmethod
    def load(cls, path: Path) -> "Rows":
        """Read what `save` wrote.

        Raises:
            ResumeError: if it is no such file.
        """
        z = load_arrays(path, _COLUMNS)
        start = np.concatenate([[0], np.cumsum(z["count"])]).astype(np.int64)
        if (z["count"] < 0).any() or start[-1] != len(z["label"]) or len(set(z["ids"].tolist())) != len(z["ids"]):
            raise ResumeError(
                explain(
                    expected="the rows of different images, as many as are counted",
                    got=f"{len(z['label'])} rows for {start[-1]}",
                    where=str(path),
                    do="delete the file, and the stage makes it again",
                )
            )
        return cls(tuple(z["ids"].tolist()), start, z["label"], z["confidence"], z["feature"])


class TwoPass(Strategy):
    """A strategy that looks a second time at images which the first pass put on a list.

    Attributes:
        closer_needs: what the second pass asks a learner for.
    """

    only_views: ClassVar[bool] = False
    units: ClassVar[tuple[str, ...]] = ("image",)
    closer_needs: ClassVar[tuple[str, ...]] = ("detections", "box_features")

    def stages(self) -> list[str | Stage]:
        """Return the standard stages, with the second look before the choice."""
        return ["train", "evaluate", "score", ShortlistFeatures(), "select", "annotate"]

    @abstractmethod
    def shortlist(self, candidates: Candidates, pool: Pool, budget: Allowance, rng: Rng) -> list[str]:
        """Return the ids that are looked at again."""

    @abstractmethod
    def closer_options(self) -> dict[str, Any]:
        """Return the second pass's options, as `view_options` does for the first."""

    @abstractmethod
    def rows_of(self, view: ImageView) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what is kept of an image: (R,) classes, (R,) confidences, (R, F) features."""

    def restore(self, cycle_dir: Path) -> None:
        """Read what the second look kept."""
        self.rows = Rows.load(cycle_dir / FILE)


class ShortlistFeatures(Stage):
    """``model.ckpt`` and ``candidates.npz`` -> ``features.npz``: rows of the images that the strategy lists."""

    name = "shortlist_features"

    def run(self, ctx: StageContext) -> dict[str, float]:
        """Look at the listed images in parallel."""
        strategy: TwoPass = ctx.strategy
        allowance = ctx.budget.allowance(ctx.cycle, len(ctx.pool))
        candidates = Candidates.load(ctx.cycle_dir / "candidates.npz")
        ids = strategy.shortlist(candidates, ctx.pool, allowance, ctx.rng(self.name))
        paths = run_sharded(ctx, "features", f"{__name__}:look_closer", ids, ctx.cycle_dir / "model.ckpt", ".npz")
        rows = Rows.concat([Rows.load(path) for path in paths])
        rows.save(ctx.cycle_dir / FILE)
        remove_shards(paths)
        return {"listed": len(ids), "rows": len(rows.label)}

    def files(self, ctx: StageContext) -> list[Path]:
        """Return the rows."""
        return [ctx.cycle_dir / FILE]


def look_closer(run_dir: str, checkpoint: str, ids: Sequence[str], out: str) -> dict[str, float]:
    """Write what a strategy keeps of some images; a job."""
    config, _, learner = open_learner(run_dir, checkpoint)
    strategy: TwoPass = build(config["strategy"])
    views = learner.views(ids, strategy.closer_needs, strategy.closer_options())
    Rows.of_images({v.sample_id: strategy.rows_of(v) for v in views if isinstance(v, ImageView)}).save(Path(out))
    return {"images": len(ids)}


def boxes_with_features(view: ImageView) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return classes (D,), confidences (D,) and features (D, F) of a view's detections.

    Raises:
        TypeError: if the learner does not give them.
    """
    if view.detections is None or "box_features" not in view.extras:
        raise TypeError(f"asked for box_features of {view.sample_id!r}, got none; the learner must provide them")
    return view.detections.labels, view.detections.confidence, view.extras["box_features"]
