"""CDAL: buy images whose predictions, taken together, mean something else than those of the others."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from al_lab.acquisition.diversity.mixture_greedy import MixtureDistances, greedy
from al_lab.core.budget import Allowance
from al_lab.core.errors import ConfigError, DataError, explain
from al_lab.core.fields import at_least, flag, fraction, one_of, optional
from al_lab.core.pool import Pool
from al_lab.core.rng import Rng
from al_lab.core.strategy import ProposeContext, Reason, Strategy
from al_lab.core.types import Candidates, DenseView, ImageView, Query
from al_lab.strategies.rivals._contextual_policy import learn_picks


class Cdal(Strategy):
    """Contextual diversity: Agarwal et al., ECCV 2020 (arXiv 2008.05723); code sharat29ag/CDAL at a5697b5.

    An image is described by the mean of its predictions' class distributions, the unsure ones weighing more; bought is
    a set whose descriptions differ, from each other and from what is labeled.

        m_I = sum_r H(p_r) p_r / sum_r H(p_r), over all anchors r                                     Eq. (1)
        d(I, J) = 1/2 KL(m_I || m_J) + 1/2 KL(m_J || m_I)                                             Eq. (2)
        greedy (CDAL-CS):  s <- L;  B times:  u = argmax_{i in U} min_{j in s} d(i, j);  s <- s + {u}
        rl (CDAL-RL):      q = policy(m_1 ... m_N), trained on R = 1.5 CD + 0.5 V; the B largest q    Eq. (4), (5)

    | symbol | argument | default | where |
    |---|---|---|---|
    | p_r | | softmax over the C foreground logits, background left out; sigmoid heads: p / sum p | code; sigmoid ours |
    | | prior_filter | null: every anchor of a softmax head, those above .05 of a sigmoid one | code; sigmoid ours |
    | | by_class | false: one mixture an image, as the detection code has it | code; the paper has one a class |
    | | picker | greedy | both are the paper's |
    | | epochs | 10, of rl | code |

    Deviations: nothing is picked at random first (the code does so even where L is not empty); mixtures are at least
    1e-8 in logarithms (the code has no bound). ``by_class`` takes the mean over classes that both images have, as the
    code for segmentation does; the paper has the sum. CDAL-RL reads the pool in its order, which then decides, too.

    Args:
        picker: greedy | rl.
        by_class: a mixture for each class that is predicted somewhere.
        prior_filter: anchors count whose best foreground class is above this; null: see above.
        epochs: how long the policy of ``rl`` is trained.
    """

    needs: ClassVar[tuple[str, ...]] = ("prior_mixture",)
    units: ClassVar[tuple[str, ...]] = ("image",)
    scores_labeled: bool = True

    def __init__(
        self,
        picker: Literal["greedy", "rl"] = "greedy",
        by_class: bool = False,
        prior_filter: float | None = None,
        epochs: int = 10,
    ) -> None:
        self.picker = one_of("greedy", "rl")(picker, "strategy.picker", do="CDAL-CS is greedy")
        self.by_class = bool(flag(by_class, "strategy.by_class", do="false: one mixture an image"))
        self.prior_filter = optional(fraction)(prior_filter, "strategy.prior_filter", do="null: as in the paper's code")
        self.epochs = at_least(1)(epochs, "strategy.epochs", do="the code's are 10")

    def check_dataset(self, dataset: Any) -> None:
        """Refuse a single class, of which every mixture is the same."""
        if len(dataset.classes) > 1:
            return
        raise ConfigError(
            explain(
                expected="at least two classes, whose mixture differs between images",
                got=f"{len(dataset.classes)} of dataset {dataset.name!r}",
                where="strategy=cdal",
                do="choose strategy=core_set for variety without classes",
            )
        )

    def view_options(self) -> dict[str, Any]:
        """See `Strategy.view_options`."""
        return {"prior_mixture": {"min_confidence": self.prior_filter, "by_class": self.by_class}}

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Return the image with its mixture (C,) or (C, C); its worth is only known once the others' are."""
        mixture = view.extras.get("prior_mixture")
        if mixture is None:
            raise TypeError("Cdal.propose: expected prior_mixture among the view's extras; the learner must provide it")
        return Candidates.images([view.sample_id], [0.0], mixture=np.asarray(mixture, np.float32)[None])

    def select(self, candidates: Candidates, pool: Pool, budget: Allowance, rng: Rng) -> list[Query]:
        """Return the picks in order; the utility is the divergence from all centers, or q."""
        ids = candidates.sample_ids
        if not ids:
            return []
        mixtures = np.asarray(candidates.info["mixture"])
        bad = np.flatnonzero(~np.isfinite(mixtures.reshape(len(ids), -1)).all(1))
        if len(bad):
            raise DataError(
                explain(
                    expected="finite mixtures",
                    got=f"{len(bad)} that are not, the first of sample {ids[bad[0]]!r}",
                    where="strategy cdal",
                    do="the detector diverged: look at its loss",
                )
            )
        return (self._greedy if self.picker == "greedy" else self._learned)(ids, mixtures, pool, budget, rng)

    def _greedy(self, ids: Sequence[str], mixtures: np.ndarray, pool: Pool, budget: Allowance, rng: Rng) -> list[Query]:
        order = np.argsort(rng.tie_keys(ids))  # not the pool's, which is to decide nothing, roundings included
        ids = [ids[n] for n in order]
        labeled, closed = set(pool.labeled()), set(ids) - set(pool.labeled()) - set(pool.unlabeled())
        rows = [n for n, i in enumerate(ids) if i not in closed]
        ids, mixtures = [ids[n] for n in rows], mixtures[order[rows]]
        near = None if pool.apart is None else pool.apart.rows(ids).near
        centers = [n for n, i in enumerate(ids) if i in labeled]
        picked = greedy(MixtureDistances(mixtures), budget.amount, centers, near)
        # Without a single labeled image the first pick is infinitely far; its utility must be a number.
        distance = np.where(np.isinf(picked.distance), np.finfo(np.float32).max, picked.distance)
        return [Query(ids[n], None, float(d)) for n, d in zip(picked.order, distance, strict=True)]

    def _learned(
        self, ids: Sequence[str], mixtures: np.ndarray, pool: Pool, budget: Allowance, rng: Rng
    ) -> list[Query]:
        row_of = {i: n for n, i in enumerate(ids)}
        open_ids = [i for i in pool.unlabeled() if i in row_of]
        if not open_ids:
            return []
        apart = None if pool.apart is None else pool.apart.rows(open_ids)
        rows = [row_of[i] for i in open_ids]
        picks, wish = learn_picks(mixtures[rows], budget.amount, self.epochs, rng, apart)
        return [Query(open_ids[n], None, float(q)) for n, q in zip(picks, wish, strict=True)]

    def explain(self, view: ImageView, ctx: ProposeContext, classes: Sequence[str], utility: float) -> Reason:
        """See `Strategy.explain`: the utility is the divergence."""
        if self.picker == "rl":
            return Reason({"wish": utility}, f"the policy wants it by {utility:.3g}")
        if utility >= np.finfo(np.float32).max:
            return Reason({}, "the first of all: nothing is labeled yet")
        return Reason({}, f"its predictions diverge by {utility:.3g} from everything labeled or chosen before it")
