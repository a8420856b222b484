"""What the current model says of the source's images, for strategies that compare the target with the source."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from al_lab.config.build import build
from al_lab.core.arrays import Column, load_arrays
from al_lab.core.errors import ConfigError, explain
from al_lab.core.files import atomic_path
from al_lab.core.rng import Rng
from al_lab.core.stage import Stage, StageContext
from al_lab.core.strategy import Strategy
from al_lab.core.types import DenseView
from al_lab.stages.jobs import dense, open_learner
from al_lab.stages.sharding import remove_shards, run_sharded


class LooksAtSource(Strategy):
    """A strategy whose choice depends on the source's images, looked at anew with each cycle's model.

    Attributes:
        from_source: columns of what is kept of them, as `restore` reads it.
    """

    only_views: ClassVar[bool] = False
    tasks: ClassVar[tuple[str, ...]] = ("segmentation",)
    from_source: ClassVar[Mapping[str, Column]] = {}
    source_needs: ClassVar[tuple[str, ...]] = ()

    def stages(self) -> list[str | Stage]:
        """Return the standard stages, with a look at the source before the choice."""
        return ["train", "evaluate", "score", SourceStatistics(), "select", "annotate"]

    def check_dataset(self, dataset: Any) -> None:
        """Refuse a dataset without a source domain."""
        if not dataset.source_ids:
            raise ConfigError(
                explain(
                    expected="a source domain, with which the target is compared",
                    got="none",
                    where="dataset",
                    do="use a dataset with source images, or a strategy that looks at the target alone",
                )
            )

    @abstractmethod
    def of_source(self, view: DenseView, label_HW: np.ndarray) -> dict[str, np.ndarray]:
        """Return what is to be known of one source image, in rows."""

    @abstractmethod
    def summary(self, rows: Mapping[str, np.ndarray], rng: Rng) -> dict[str, np.ndarray]:
        """Return what is kept, from the rows of all source images in the order of their ids."""

    def restore(self, cycle_dir: Path) -> None:
        """Read what is kept of the source."""
        self.source = load_arrays(cycle_dir / "source.npz", self.from_source)


class SourceStatistics(Stage):
    """``model.ckpt`` and the source's images and labels, which are free -> ``source.npz``."""

    name = "source"

    def run(self, ctx: StageContext) -> dict[str, float]:
        """Look at all source images in parallel."""
        strategy: Any = ctx.strategy
        ids, checkpoint = ctx.dataset.source_ids, ctx.cycle_dir / "model.ckpt"
        paths = run_sharded(ctx, "source", f"{__name__}:look", ids, checkpoint, ".npz")
        parts = [_read(path) for path in paths]
        rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        with atomic_path(ctx.cycle_dir / "source.npz") as temporary, temporary.open("wb") as stream:
            np.savez(stream, **strategy.summary(rows, ctx.rng("source")))
        remove_shards(paths)
        return {"source_images": len(ids), "source_rows": len(next(iter(rows.values())))}

    def files(self, ctx: StageContext) -> list[Path]:
        """Return what is kept."""
        return [ctx.cycle_dir / "source.npz"]


def look(run_dir: str, checkpoint: str, ids: Sequence[str], out: str) -> dict[str, float]:
    """Write what a strategy wants to know of some source images; a job."""
    config, dataset, learner = open_learner(run_dir, checkpoint)
    strategy: LooksAtSource = build(config["strategy"])
    views: Iterator[DenseView] = map(dense, learner.views(ids, strategy.source_needs))
    if "segments" in strategy.data_needs:
        views = (replace(view, segments=dataset.segment_map(view.sample_id)) for view in views)
    parts = [strategy.of_source(view, dataset.source_label(view.sample_id)) for view in views]
    with atomic_path(Path(out)) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    return {"images": len(ids)}


def _read(path: Path) -> dict[str, np.ndarray]:
    return load_arrays(path, {}, rest=Column("biuf"))


def classes_at(view: DenseView, size_hw: Sequence[int]) -> Tensor:
    """Return the predicted class at each location of a coarser map, (h, w) int64: that of the nearest pixel."""
    rows, columns = (
        torch.linspace(0, full - 1, coarse, dtype=torch.float64).round().long().to(view.probs.device)
        for full, coarse in zip(view.size_hw, size_hw, strict=True)
    )
    found: Tensor = view.probs[:, rows][:, :, columns].argmax(0)
    return found


def labels_at(label_HW: np.ndarray, size_hw: Sequence[int]) -> np.ndarray:
    """Return the label at each location of a coarser map, (h, w): that of the nearest pixel."""
    rows, columns = (
        np.round(np.linspace(0, full - 1, coarse)).astype(np.int64)
        for full, coarse in zip(label_HW.shape, size_hw, strict=True)
    )
    return np.asarray(label_HW[np.ix_(rows, columns)])
