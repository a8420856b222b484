"""Spreading work over images to the executor's workers, so that who did what can't be seen in the result."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from al_lab.core.files import fsync_dir
from al_lab.core.stage import StageContext
from al_lab.execution.job import Job

# A worker's share is a handful of shards, so that a slow worker does not hold up the others at the end.
_SHARDS_PER_WORKER = 2


def shards(ids: Sequence[str], batch: int, workers: int) -> list[list[str]]:
    """Cut ids into runs whose lengths are multiples of ``batch``: every forward sees the batch it would see alone."""
    batches = -(-len(ids) // batch)
    per_shard = max(1, -(-batches // (workers * _SHARDS_PER_WORKER))) * batch
    return [list(ids[k : k + per_shard]) for k in range(0, len(ids), per_shard)]


def run_sharded(
    ctx: StageContext,
    what: str,
    fn: str,
    ids: Sequence[str],
    checkpoint: Path,
    suffix: str,
    *,
    beside: Callable[[Path], Path] | None = None,
    **kwargs: Any,
) -> list[Path]:
    """Run a function over ids in parallel and return the files it wrote, in order.

    ``fn`` is one of `al_lab.stages.jobs`, or ``module:function``.
    ``beside`` names the second file that the function writes for each, if it does.
    """
    folder = ctx.cycle_dir / "shards"
    parts = shards(ids, int(ctx.config["runtime"]["predict_batch"]), ctx.executor.num_workers)
    outs = [folder / f"{what}_{n:03d}{suffix}" for n in range(len(parts))]
    ctx.executor.run(
        [
            Job(
                name=f"cycle {ctx.cycle:02d} {what} {n + 1}/{len(parts)}",
                fn=fn if ":" in fn else f"al_lab.stages.jobs:{fn}",
                result=out.with_suffix(".json"),
                kwargs={
                    "run_dir": str(ctx.run_dir),
                    "checkpoint": str(checkpoint),
                    "ids": part,
                    "out": str(out),
                    **kwargs,
                },
                outputs=(out,) if beside is None else (out, beside(out)),
            )
            for n, (part, out) in enumerate(zip(parts, outs, strict=True))
        ]
    )
    return outs


def remove_shards(paths: Sequence[Path]) -> None:
    """Delete shards that were merged, and those an interrupted run left that had cut its work otherwise.

    What says that a shard is done goes first, and for good: a kill in between leaves shards that are made again, never
    a shard that counts as done and is not there.
    """
    if not paths:
        return
    folder, what = paths[0].parent, paths[0].stem.rsplit("_", 1)[0]
    files = list(folder.glob(f"{what}_*"))
    results = [path for path in files if path.suffix == ".json"]
    for path in results:
        path.unlink()
    fsync_dir(folder)
    for path in set(files) - set(results):
        path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
