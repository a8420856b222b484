"""D2ADA: buy segments that the target has and the source lacks, later those that are uncertain."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import torch

from al_lab.acquisition.domains.density_difference import (
    class_turns,
    density_difference,
    density_share,
    round_robin,
)
from al_lab.acquisition.segments.means import feature_means, open_segments, segment_means
from al_lab.acquisition.uncertainty import entropy
from al_lab.core.arrays import Column
from al_lab.core.budget import Allowance
from al_lab.core.fields import at_least, flag, not_negative, one_of, positive
from al_lab.core.pool import Pool
from al_lab.core.rng import Rng
from al_lab.core.strategy import ProposeContext, mix, take_best
from al_lab.core.types import Candidates, DenseView, ImageView, Query
from al_lab.strategies.general._segments import candidates, dense_of, segments_of
from al_lab.strategies.segmentation._source import LooksAtSource


class D2ada(LooksAtSource):
    """Dynamic density-aware active domain adaptation: its selection.

    Wu et al., "D2ADA: Dynamic Density-Aware Active Domain Adaptation for Semantic Segmentation", ECCV 2022; facts from
    the released code (github.com/tsunghan-wu/D2ADA). Over the whole pool, by segments of mean features phi and mean
    probabilities, whose largest is the segment's class:

        score(r) = log p_S(phi) - log p_T(phi)    mixtures of Gaussians of the class's segments in source and target
        density: of each class the ``kept`` smallest, class by class in turn, omega_c at a time
        query n spends lambda = alpha 2^(beta (1 - n)) of its budget so, the rest on the largest mean entropies

    | symbol | argument | default | where |
    |---|---|---|---|
    | segments kept of a class | ``kept`` | 200 | released code |
    | alpha, beta | ``alpha``, ``beta`` | 1, 1 | paper |
    | n | | 1, 2, … | paper; released code: 0, 1, … (``released``) |
    | omega_c | | int(log10 of the mean score's size), 1 at least | released code: 0 for ever below 10 (``released``) |
    | components, covariances | | see `density_difference` | released code; diagonal where segments are few |

    Deviations: features are the network's branch F, averaged as if upsampled (D2ADA's are 256 channels of a decoder);
    of the source at most ``source_segments`` a class are kept, drawn at random; the budget is never exceeded, where the
    released code goes over by a segment; what a class can't spend goes to uncertain segments. A class of which the
    target shows fewer than two segments is bought by uncertainty alone. With ``released`` a class without turns is left
    out, where the code's loop would not end.

    Args:
        kept: see above.
        alpha: likewise.
        beta: likewise.
        source_segments: of a class.
        released: likewise.
        ties: equal entropies: hash (of seed, cycle, id and segment) | id.
    """

    needs: ClassVar[tuple[str, ...]] = ("dense_probs", "pixel_features")
    source_needs: ClassVar[tuple[str, ...]] = ("dense_probs", "pixel_features")
    data_needs: ClassVar[tuple[str, ...]] = ("segments",)
    units: ClassVar[tuple[str, ...]] = ("segment", "pixel")
    pixel_scopes: ClassVar[tuple[str, ...]] = ("pool",)
    from_source: ClassVar[Mapping[str, Column]] = {"features": Column("f", ("N", "D")), "label": Column("i", ("N",))}

    def __init__(
        self,
        kept: int = 200,
        alpha: float = 1.0,
        beta: float = 1.0,
        source_segments: int = 20000,
        released: bool = False,
        ties: Literal["hash", "id"] = "hash",
    ) -> None:
        self.kept = at_least(1)(kept, "strategy.kept", do="200 is the released code's")
        self.alpha = positive(alpha, "strategy.alpha", do="1 is the paper's")
        self.beta = not_negative(beta, "strategy.beta", do="1 is the paper's")
        self.source_segments = at_least(2)(source_segments, "strategy.source_segments", do="e.g. 20000")
        self.released = bool(flag(released, "strategy.released"))
        self.ties = one_of("hash", "id")(ties, "strategy.ties")

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Return all segments: open ones may be bought, the others say what the target looks like."""
        view = dense_of(view, "D2ada")
        if view.features is None:
            raise TypeError("D2ada.propose: expected features; the learner must provide pixel_features")
        segments_HW = segments_of(view)
        number_N = open_segments(segments_HW, None)
        is_open = np.isin(number_N, open_segments(segments_HW, view.bought))
        entropy_R = segment_means(entropy(view.probs, dim=0)[None], segments_HW)[:, 0]
        of_segments = {"utility": entropy_R, "features": feature_means(view.features, segments_HW)}
        found = candidates(view, number_N, of_segments)
        columns = {"label": _classes(view)[number_N], "open": is_open}
        return replace(found, columns={**found.columns, **columns}, info={"query": np.array([ctx.cycle + 1], np.int64)})

    def of_source(self, view: DenseView, label_HW: np.ndarray) -> dict[str, np.ndarray]:
        """Return the segments of a source image; its labels aren't looked at."""
        number_N = open_segments(segments_of(view), None)
        mean_RD = feature_means(view.features, segments_of(view)).float().cpu().numpy()
        return {"features": mean_RD[number_N], "label": _classes(view)[number_N]}

    def summary(self, rows: Mapping[str, np.ndarray], rng: Rng) -> dict[str, np.ndarray]:
        """Return some segments of each class."""
        order = rng.generator("segments").permutation(len(rows["label"]))
        of_class = [order[rows["label"][order] == c][: self.source_segments] for c in np.unique(rows["label"])]
        kept = np.sort(np.concatenate(of_class)) if of_class else order
        return {name: values[kept] for name, values in rows.items()}

    def select(self, candidates: Candidates, pool: Pool, budget: Allowance, rng: Rng) -> list[Query]:
        """Spend lambda by densities, the rest by entropy."""
        here = np.isin(np.asarray(candidates.sample_ids), np.asarray(pool.unlabeled()))[candidates.sample]
        open_N = np.flatnonzero(here & (candidates.columns["open"] > 0))
        if not len(open_N):
            return []
        assert candidates.segment is not None and candidates.cost is not None
        # by id and number: the pool's order decides nothing
        place_M = rng.tie_keys(candidates.sample_ids, "id")
        every_N = np.lexsort((candidates.segment, place_M[candidates.sample]))
        open_N = every_N[np.isin(every_N, open_N)]
        cost = candidates.cost if budget.unit == "pixel" else np.ones(len(candidates), np.int64)
        first = self._by_density(candidates, every_N, open_N, rng)
        share = min(1.0, density_share(int(candidates.info["query"][0]) - self.released, self.alpha, self.beta))
        first = first[np.cumsum(cost[first]) <= share * budget.amount]
        key_N = rng.tie_keys(candidates.sample_ids)[candidates.sample[open_N]]
        key_N = mix(key_N, candidates.segment[open_N]) if self.ties == "hash" else np.arange(len(open_N))
        rest = open_N[np.lexsort((key_N, -candidates.utility[open_N]))]
        rest = rest[~np.isin(rest, first)]
        chosen = np.concatenate([first, rest]).astype(np.int64)
        ranked = replace(
            candidates,
            sample=candidates.sample[chosen],
            utility=np.arange(len(chosen), 0, -1, dtype=np.float64),
            center=None if candidates.center is None else candidates.center[chosen],
            segment=candidates.segment[chosen],
            cost=candidates.cost[chosen],
            columns={},
        )
        return take_best(ranked, pool, budget, rng, ties=self.ties)

    def _by_density(self, found: Candidates, every_N: np.ndarray, open_N: np.ndarray, rng: Rng) -> np.ndarray:
        """Return rows in the order of the round robin over classes."""
        features, label = found.columns["features"], found.columns["label"]
        ranked: dict[int, list[int]] = {}
        turns: dict[int, int] = {}
        for c in np.unique(label[every_N]).tolist():
            target, mine = every_N[label[every_N] == c], open_N[label[open_N] == c]
            if len(target) < 2 or not len(mine):  # noqa: PLR2004 - no variance
                continue
            source = self.source["features"][self.source["label"] == c]
            seed = rng.child("mixture", c).seed() % 2**32
            score = density_difference(source, features[target], features[mine], seed)
            turns[c] = class_turns(float(score.mean()), self.released)
            if turns[c] > 0:
                ranked[c] = mine[np.argsort(score, kind="stable")[: self.kept]].tolist()
        return np.asarray(round_robin(ranked, turns), np.int64)


def _classes(view: DenseView) -> np.ndarray:
    """Return the class of each segment, (R,) int64: of the largest mean probability."""
    mean_RC = segment_means(view.probs, segments_of(view))
    return torch.nan_to_num(mean_RC, -1).argmax(1).cpu().numpy()
