"""Core-set: buy images (or pixels) so that none is far, in feature space, from a labeled one."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from al_lab.acquisition.k_center import k_center
from al_lab.core.budget import Allowance
from al_lab.core.errors import ConfigError, DataError, explain
from al_lab.core.pool import Pool
from al_lab.core.rng import Rng
from al_lab.core.strategy import ProposeContext, Reason, Strategy, take_best
from al_lab.core.types import Candidates, DenseView, ImageView, Query
from al_lab.strategies.general._filtered import Filter, FilteredGreedy, SeedRule


class CoreSet(Strategy):
    """Greedy k-center over one embedding an image, with the labeled images as the first centers.

    Sener & Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018 (arXiv
    1708.00489), Alg. 1:

        s <- L;  B times:  u = argmax_{i in U} min_{j in s} |x_i - x_j|_2;   s <- s + {u}

    | symbol | here | default | where |
    |---|---|---|---|
    | x | ``image_embedding`` of this cycle's detector | SSD: conv11_2; RetinaNet: mean over P3..P7 |
    ``detector.embedding_from`` |
    | utility | distance to the nearest center when picked | | |

    By pixel, the same in each image by itself, as in the k-center rows of Density Matters (AAAI 2024, Table 3): x is
    the network's feature map at the alpha b least sure pixels, at unit length; the pixels bought in the image are the
    first centers. It is `Density` without densities; ``filter``, ``alpha`` and ``seed_rule`` are explained there. Over
    the whole pool that would take days, so it is refused.

    Deviations: greedy only; the robust variant (mixed-integer program with outliers) is not used in detection
    comparisons.

    Args:
        normalize: divide embeddings of images by their Euclidean norm first; off in the paper.
        threads: BLAS threads of the selection of images; changes the time only.
        filter: of pixels: entropy (Density Matters' k-center) | margin | least_confidence | none.
        alpha: candidates a pixel bought; null: by budget.
        seed_rule: of pixels: informative | random.
        ties: hash | id, for equally distant images and equally unsure pixels.
    """

    needs: ClassVar[tuple[str, ...]] = ("image_embedding",)
    pixel_needs: ClassVar[tuple[str, ...]] = ("dense_probs", "pixel_features")
    tasks: ClassVar[tuple[str, ...]] = ("detection", "segmentation")
    units: ClassVar[tuple[str, ...]] = ("image", "box", "pixel")
    pixel_scopes: ClassVar[tuple[str, ...]] = ("image",)
    scores_labeled: bool = True

    def __init__(
        self,
        normalize: bool = False,
        threads: int = 1,
        filter: Filter = "entropy",
        alpha: float | None = None,  # noqa: A002
        seed_rule: SeedRule = "informative",
        ties: Literal["hash", "id"] = "hash",
    ) -> None:
        if seed_rule == "dense":
            raise ConfigError(
                explain(
                    expected="informative | random",
                    got=repr(seed_rule),
                    where="strategy.seed_rule",
                    do="densities are strategy=density's",
                )
            )
        self.greedy = FilteredGreedy(filter, alpha, seed_rule, ties)
        self.normalize, self.threads, self.ties = bool(normalize), int(threads), ties

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Return the image with its embedding, whose utility is only known once the others are.

        Or the picks among its pixels.
        """
        if isinstance(view, DenseView) and ctx.quota is not None:
            if view.features is None:
                raise TypeError(
                    "CoreSet.propose: expected features, got a view without; the learner must provide pixel_features"
                )
            return self.greedy(view, ctx, None)
        if view.embedding is None:
            raise TypeError(
                "CoreSet.propose: expected an embedding, got a view without; the learner must provide image_embedding"
            )
        return Candidates.images([view.sample_id], [0.0], embedding=np.asarray(view.embedding, np.float32)[None])

    def select(self, candidates: Candidates, pool: Pool, budget: Allowance, rng: Rng) -> list[Query]:
        """Run k-center and return its picks in order; pixels were picked image by image."""
        if candidates.center is not None:
            return take_best(candidates, pool, budget, rng, ties=self.ties)
        ids, labeled_ids = candidates.sample_ids, set(pool.labeled())
        features = np.asarray(candidates.info["embedding"], np.float32)
        bad = np.flatnonzero(~np.isfinite(features).all(1))
        if len(bad):
            raise DataError(
                explain(
                    expected="finite embeddings",
                    got=f"{len(bad)} that are not, the first of sample {ids[bad[0]]!r}",
                    where="strategy core_set",
                    do="the detector diverged: look at its loss",
                )
            )
        if self.normalize:
            features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        key = rng.tie_keys(ids, self.ties)
        labeled = np.flatnonzero([i in labeled_ids for i in ids])
        near = None if pool.apart is None else pool.apart.rows(ids).near
        picked = k_center(features, budget.amount, labeled, tie_key=key, near=near, threads=self.threads)
        # Without a single labeled image the first pick is infinitely far; its utility must be a number.
        distance = np.where(np.isinf(picked.distance), np.finfo(np.float32).max, picked.distance)
        return [Query(ids[n], None, float(d)) for n, d in zip(picked.order, distance, strict=True)]

    def explain(self, view: ImageView, ctx: ProposeContext, classes: Sequence[str], utility: float) -> Reason:
        """See `Strategy.explain`: the utility is the distance."""
        if utility >= np.finfo(np.float32).max:
            return Reason({}, "the first of all: nothing is labeled yet")
        return Reason({}, f"{utility:.3g} away from everything labeled or chosen before it")
