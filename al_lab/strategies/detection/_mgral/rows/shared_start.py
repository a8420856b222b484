"""Do rows that start from one model rank batches as rows from scratch, the paper's, do? Asked once, of a few rows.

With ``mode=finetune`` all rows of a fold start from its base and train for a part of the schedule. With
``against_scratch=n`` the first n batches, which are random ones, are trained from scratch as well, over the whole
schedule and at its own learning rate, in the first cycle; their rewards' rank correlation goes into table, log and
report. Nothing is chosen by it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from al_lab.strategies.detection._mgral.predictor.leave_one_out import rank_correlation
from al_lab.strategies.detection._mgral.rows.settings import LutSettings


def as_the_paper(settings: LutSettings) -> LutSettings:
    """Return the same table with rows from scratch, each trained to its end."""
    whole = {"mode": "scratch", "length": 1.0, "lr_scale": 1.0, "early_stop": None, "calibrate": None}
    return replace(settings, **whole, against_scratch=None)  # type: ignore[arg-type]


def agreement_with_scratch(shared: Sequence[float], scratch: Sequence[float]) -> dict[str, Any]:
    """Say how far two trainings of the same batches agree.

    Args:
        shared: (n,) rewards of rows from the shared start.
        scratch: (n,) of those from scratch, in the same order.
    """
    rank = rank_correlation(np.asarray(shared), np.asarray(scratch))
    return {
        "compared": len(shared),
        "rank_correlation": rank,
        "shared": list(map(float, shared)),
        "scratch": list(map(float, scratch)),
        "sentence": f"of {len(shared)} batches, rewards of rows from the shared start and of rows from scratch have a "
        f"rank correlation of {rank:+.2f}",
    }
