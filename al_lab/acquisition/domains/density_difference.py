"""D2ADA's selection of regions: what the target has and the source lacks, class by class, and what is uncertain.

Wu et al., "D2ADA: Dynamic Density-Aware Active Domain Adaptation for Semantic Segmentation", ECCV 2022; facts from the
released code (github.com/tsunghan-wu/D2ADA, 332ad9f). Shapes: N source regions, M target regions, R regions that may be
bought, D feature channels.

| symbol | here | default | where |
|---|---|---|---|
| mixtures' components | `num_components` | M // 100, 1 to 10 | released code |
| lambda | `density_share` | 2^(1 - n), n = 1, 2, … | paper; released code counts n from 0: ``released`` |
| omega_c | `class_turns` | int(log10 of the mean score's size), 1 at least | released code, where it may be 0 |
"""

import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

_MOST, _REGIONS = 10, 100  # components, and regions for each
_ITERATIONS, _REGULAR = 200, 1e-6


def num_components(num_target: int) -> int:
    """Return how many Gaussians a class's regions get: M // 100, from 1 to 10."""
    return int(np.clip(num_target // _REGIONS, 1, _MOST))


def density_difference(source_ND: np.ndarray, target_MD: np.ndarray, region_RD: np.ndarray, seed: int) -> np.ndarray:
    """Return log p_S - log p_T of each region, (R,) float64; small: common in the target, rare in the source.

    p_S, p_T are mixtures of Gaussians of the regions of one class in the source, and in the target (bought ones, too),
    with full covariances. Where a component has fewer than 2 D regions a full covariance is singular or nearly so:
    there it is diagonal (ours; the released code lets 1e-6 on the diagonal decide).

    Args:
        source_ND: of all source regions of the class; if there are none, p_S is nowhere and the score -log p_T less a
            constant: every region is new.
        target_MD: of all target regions of the class, M >= 2.
        region_RD: to be scored.
        seed: of the mixtures' starts.
    """
    number = num_components(len(target_MD))
    target = _log_density(target_MD, region_RD, number, seed)
    if len(source_ND) < 2:  # noqa: PLR2004 - no variance
        return -target - _NEVER
    return np.asarray(_log_density(source_ND, region_RD, number, seed) - target)


_NEVER = 1e6  # a logarithm of a density below all others


def _log_density(x_ND: np.ndarray, at_RD: np.ndarray, number: int, seed: int) -> np.ndarray:
    number = min(number, len(x_ND))
    kind = "full" if len(x_ND) >= 2 * x_ND.shape[1] * number else "diag"
    model = GaussianMixture(
        number, covariance_type=kind, max_iter=_ITERATIONS, n_init=1, reg_covar=_REGULAR, random_state=seed
    )
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(np.asarray(x_ND, np.float64))
    return np.asarray(model.score_samples(np.asarray(at_RD, np.float64)))


def class_turns(mean_score: float, released: bool = False) -> int:
    """Return omega_c, how many regions of a class are taken at a turn.

    Args:
        mean_score: of the class's regions.
        released: as the released code: 0 for means below 10 in size, and less below 0.1, so that such a class never
            gets a turn (and `round_robin` would never end).
    """
    size = abs(mean_score)
    turns = int(math.log10(size)) if size > 0 else 0
    return turns if released else max(1, turns)


def round_robin(ranked: Mapping[int, Sequence[int]], turns: Mapping[int, int]) -> list[int]:
    """Return all rows, class by class in turn, as many of each as it has turns.

    Args:
        ranked: class -> rows, the best first.
        turns: class -> rows a turn; less than 1 counts as 1, so that it ends.
    """
    queues = {c: list(rows) for c, rows in sorted(ranked.items()) if len(rows)}
    order: list[int] = []
    at = dict.fromkeys(queues, 0)
    while queues:
        for c in list(queues):
            step = max(1, turns[c])
            order += queues[c][at[c] : at[c] + step]
            at[c] += step
            if at[c] >= len(queues[c]):
                del queues[c]
    return order


def density_share(query: int, alpha: float = 1.0, beta: float = 1.0) -> float:
    """Return lambda = alpha 2^(beta (1 - n)) of query n = 1, 2, …: the share of its budget that goes by densities.

    The rest goes by uncertainty. The released code counts n from 0: 2, that is more than there is.
    """
    return float(alpha * 2 ** (beta * (1 - query)))
