"""``agent_scores.npz``: by what the query ranks the candidates."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from al_lab.core.arrays import Column, load_arrays
from al_lab.core.files import atomic_path
from al_lab.core.stage import StageContext
from al_lab.core.strategy import context_for
from al_lab.strategies.general.random import random_utility


def save_scores(cycle_dir: Path, scores: dict[str, float]) -> None:
    """Write the agent's score of every candidate."""
    with atomic_path(cycle_dir / "agent_scores.npz") as temporary, temporary.open("wb") as stream:
        np.savez(
            stream, ids=np.asarray(list(scores), dtype=np.str_), scores=np.asarray(list(scores.values()), np.float64)
        )


def save_random_scores(ctx: StageContext, ids: Iterable[str]) -> None:
    """Write the scores of a closed gate: those of ``strategy=random``, which buys the same images in this cycle."""
    seed = int(ctx.config["seed"])
    save_scores(ctx.cycle_dir, {i: random_utility(context_for(seed, ctx.cycle, i, "image")) for i in ids})


def load_scores(cycle_dir: Path) -> dict[str, float]:
    """Read what `save_scores` wrote; nothing if there is none."""
    path = cycle_dir / "agent_scores.npz"
    if not path.is_file():
        return {}
    z = load_arrays(path, {"ids": Column("U", ("N",)), "scores": Column("f", ("N",))})
    return dict(zip(z["ids"].tolist(), z["scores"].tolist(), strict=True))
