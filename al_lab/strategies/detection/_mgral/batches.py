"""Which batches the rows of the table are (MGRAL, Sec. 3.5: "randomly selected").

Shapes: N images, K clusters, M rows of B images.

Random batches of a large pool are all alike, and rows that are alike teach nothing: with exact rewards, sixteen of them
predict each other no better than their mean does, while sixteen that differ do (leave-one-out error .66 to .92 of the
mean's). ``clusters`` draws a row's kinds of images first (beyond the paper):

    w ~ Dirichlet(a, …, a) over clusters;   images without replacement, each with probability ~ w_k / n_k

so that a row has many images of a few kinds; where a cluster has too few, the others fill up. Every fourth row stays
uniform: the query is compared with those.

Rows of the labeled set (``lut.rows_from=labeled``, beyond the paper) are simulated queries: the labeled set is cut in
two at random, a model of the first half looks at the second as one looks at a pool, and a row trains on the first half
and a part of the second, drawn in the same way, with their labels. No surrogate: what is measured is what labels are
worth. A regressor learns what a batch adds, and is asked about the labeled set with a batch (learning active
learning: Konyushkova et al., NeurIPS 2017, arXiv 1703.03365; datamodels: Ilyas et al., ICML 2022, arXiv 2202.00622).
That the model has not seen the second half matters: of images it was trained on a model is sure, so their entropies say
nothing of those of a pool.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from al_lab.acquisition.k_means import k_means
from al_lab.acquisition.plackett_luce import gumbel_noise, top
from al_lab.core.rng import Rng

Batches = Literal["uniform", "clusters"]
RowsFrom = Literal["unlabeled", "labeled"]

_CONCENTRATION = 0.3  # a: about a third of the clusters make up most of a row
_UNIFORM_EVERY = 4  # rows
_LEAST = 1e-12  # share of a cluster that a row does not want: it still fills up what others lack


def part_size(num: int) -> int:
    """Return how many of some labeled images a row trains on: half of them, at least one."""
    return max(num // 2, 1)


def halves(ids: Sequence[str], rng: Rng) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Cut the labeled images in two, at random: what a simulated query begins with, and what it may buy."""
    order = rng.generator().permutation(len(ids))
    cut = len(ids) - part_size(len(ids))
    return tuple(sorted(ids[k] for k in order[:cut])), tuple(sorted(ids[k] for k in order[cut:]))


def uniform(ids: Sequence[str], size: int, rows: int, rng: Rng) -> list[tuple[str, ...]]:
    """Return M sorted batches of ids, each drawn uniformly without replacement."""
    return [_uniform(ids, size, rng, m) for m in range(rows)]


def by_clusters(
    ids: Sequence[str], features_ND: np.ndarray, size: int, rows: int, num_clusters: int, rng: Rng
) -> list[tuple[str, ...]]:
    """Return M sorted batches of ids, three of four weighted by clusters.

    Args:
        ids: N images.
        features_ND: theirs, in the same order.
        size: B.
        rows: M.
        num_clusters: K, at most N.
        rng: of the cycle.
    """
    deviation_D = features_ND.std(0)
    standard_ND = (features_ND - features_ND.mean(0)) / np.where(deviation_D > 0, deviation_D, 1)
    cluster_N, centers_KD = k_means(standard_ND, num_clusters, rng.child("row clusters"))
    size_K = np.bincount(cluster_N, minlength=len(centers_KD))
    batches = []
    for m in range(rows):
        if m % _UNIFORM_EVERY == 0:
            batches.append(_uniform(ids, size, rng, m))
            continue
        generator = rng.generator("row", m)
        weight_K = generator.dirichlet(np.full(len(size_K), _CONCENTRATION)).clip(min=_LEAST)
        log_N = np.log(weight_K / size_K)[cluster_N]
        chosen = top(log_N, size, gumbel_noise(len(ids), generator))
        batches.append(tuple(sorted(ids[k] for k in chosen)))
    return batches


def _uniform(ids: Sequence[str], size: int, rng: Rng, m: int) -> tuple[str, ...]:
    return tuple(sorted(ids[k] for k in rng.generator("row", m).choice(len(ids), size, replace=False)))
