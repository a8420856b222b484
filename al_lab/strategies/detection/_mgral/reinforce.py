"""The agent's training: draw a batch, learn what it is worth, make it more or less likely (MGRAL, Sec. 3.3 and 3.4).

It knows nothing of tables and trainings: it asks ``estimate(batch)``. Every iteration is a function of (state, seed,
iteration), so a training that was cut goes on as if it had not been.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from al_lab.acquisition import plackett_luce
from al_lab.core.errors import DivergedError
from al_lab.core.rng import Rng
from al_lab.strategies.detection._mgral.learning.policy import Draw, draw, mode, temperature
from al_lab.strategies.detection._mgral.learning.settings import Reference, ReinforceSettings
from al_lab.strategies.detection._mgral.learning.worth import Estimator, FallBack, OwnBatch, Trainer, Worth, is_due


@dataclass(frozen=True)
class Iteration:
    """What one iteration was like; means over its draws.

    Attributes:
        reward: mAP_i, estimated or trained.
        reference: mAP_ref,{i-1}, which it was compared with.
        advantage: reward - reference; with several draws that of the first against the others.
        entropy: -ln p / B of the draws, nats a pick; 0 says the policy is certain.
        overlap: Jaccard index of the B best scores with those of the iteration before; 1 at the first.
        neighbors: records that the estimate averaged; 0 where it fell back, or came as a bare number.
        distance_min, distance_mean, distance_std: of the batch to the records; None where the estimate says nothing of
            them.
        grad_norm: before clipping.
        fall_backs: batches trained so far.
        nearest_instead: draws whose worth is the nearest record's, because fall-backs were used up.
    """

    iteration: int
    reward: float
    reference: float
    advantage: float
    entropy: float
    overlap: float
    neighbors: float
    distance_min: float | None
    distance_mean: float | None
    distance_std: float | None
    grad_norm: float
    fall_backs: int
    nearest_instead: int


def update_reference(reference: float, reward: float, decay: float, kind: Reference) -> float:
    """Return mAP_ref,i.

    ``ema``: lambda ref + (1 - lambda) mAP, the moving average that the text describes. ``literal``: Eq. (2) as printed,
    lambda ref + (1 - lambda)(mAP - ref): for a constant mAP it tends to mAP / 2, so nearly every batch looks better
    than "average".
    """
    if kind == "ema":
        return decay * reference + (1 - decay) * reward
    return decay * reference + (1 - decay) * (reward - reference)


class Reinforce:
    """Policy-gradient training of an agent: loss = -(mAP_i - mAP_ref,{i-1}) ln p(batch) / B (Eqs. (1) to (3)).

    Args:
        agent: features (N, D) -> scores (N,).
        features_ND: of the candidates, in the order in which the agent reads them; batches are positions in it.
        budget: B.
        settings: see there.
        rng: of the cycle's training.
        reference: mAP_ref,0, the metric of the cycle's detector (Fig. 1: "performance at last cycle"); None: the first
            reward.
        is_annealed: sharpen the policy while it learns, see `temperature`.

    Attributes:
        iteration: the next one, from 0.
        curves: one record an iteration.
        fall_backs: see `FallBack`.
        own: see `OwnBatch`.
    """

    def __init__(
        self,
        agent: nn.Module,
        features_ND: Tensor,
        budget: int,
        settings: ReinforceSettings,
        rng: Rng,
        reference: float | None = None,
        is_annealed: bool = False,
    ) -> None:
        self.agent, self.features_ND, self.settings, self.rng = agent, features_ND, settings, rng
        self.budget = min(budget, len(features_ND))
        self.optimizer = torch.optim.Adam(agent.parameters(), lr=settings.lr)
        self.reference = reference
        self.is_annealed = is_annealed
        self.iteration = 0
        self.curves: list[Iteration] = []
        self.fall_backs: list[FallBack] = []
        self.own: list[OwnBatch] = []
        self._best: np.ndarray | None = None

    def run(
        self,
        estimate: Estimator,
        fall_back: Trainer | None = None,
        after: Callable[[Iteration], None] | None = None,
        online: int = 0,
    ) -> None:
        """Do the iterations that are left.

        Args:
            estimate: see `step`.
            fall_back: see `step`; it also trains the agent's own batches.
            after: is called after each: save the state, log the curve, stop by raising.
            online: so many times, evenly spread, what the agent would buy now is trained and joins the records.
        """
        while self.iteration < self.settings.iterations:
            record = self.step(estimate, fall_back)
            if fall_back is not None and is_due(record.iteration, self.settings.iterations, online):
                self._train_own(record.iteration, estimate, fall_back)
            if after is not None:
                after(record)

    @property
    def records(self) -> list[FallBack | OwnBatch]:
        """All that was trained on the way, in the order in which it joined the table."""
        return sorted([*self.fall_backs, *self.own], key=lambda record: record.iteration)

    def _train_own(self, iteration: int, estimate: Estimator, train: Trainer) -> None:
        """Train what would be bought now, unless that was trained before."""
        batch = self.query()
        if any(set(record.batch) == set(batch.tolist()) for record in self.records):
            return
        expected = Worth(iteration, estimate, None, 0).of(batch)
        self.own.append(OwnBatch(iteration, tuple(batch.tolist()), float(train(batch)), expected))

    def step(self, estimate: Estimator, fall_back: Trainer | None = None) -> Iteration:
        """Do one iteration. If anything raises, the state is as it was before.

        Args:
            estimate: the worth of a batch (B,) of positions; None, or an `Estimate` without value, if it can't tell.
            fall_back: trains a row; also appends to the table.

        Raises:
            DivergedError: if scores or gradients are no longer finite.
        """
        scores_N = self._scores()
        plain_N = scores_N.detach().double().cpu().numpy()
        if not np.isfinite(plain_N).all():
            raise DivergedError(
                f"train_agent: expected finite scores at iteration {self.iteration}, got NaN or infinity; lower "
                f"strategy.learning.lr"
            )
        if self.is_annealed:
            done = self.iteration / max(self.settings.iterations - 1, 1)
            scores_N = scores_N / temperature(done, float(plain_N.std()))
        rng = self.rng.child(self.iteration)
        if self.settings.is_of_top:
            draws = [mode(self.settings.policy, scores_N, self.budget)]
        else:
            draws = [
                draw(self.settings.policy, scores_N, self.budget, rng.generator("draw", k))
                for k in range(self.settings.num_samples)
            ]
        allowed = self.settings.allowed(self.iteration)
        worth = Worth(self.iteration, estimate, fall_back, allowed - len(self.fall_backs))
        rewards = np.array([worth.of(d.batch) for d in draws])
        reference = float(rewards.mean()) if self.reference is None else self.reference
        # The others' mean takes the reference's place: both subtracted, the reference would cancel.
        advantages = rewards - ((rewards.sum() - rewards) / (len(rewards) - 1) if len(rewards) > 1 else reference)
        terms = [float(a) * d.log_prob for a, d in zip(advantages, draws, strict=True)]
        loss = -sum(terms[1:], terms[0]) / len(draws)  # Eq. (3)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = float(nn.utils.clip_grad_norm_(self.agent.parameters(), self.settings.clip))
        if not np.isfinite(norm):
            raise DivergedError(
                f"train_agent: expected finite gradients at iteration {self.iteration}, got norm {norm}; lower "
                "strategy.learning.lr, or set strategy.agent.bptt"
            )
        self.optimizer.step()
        return self._commit(plain_N, draws, rewards, reference, float(advantages[0]), norm, worth)

    def utilities(self) -> np.ndarray:
        """Return what the query ranks by, (N,) float64: the scores, no noise, the fixed order.

        Or what the agent makes of them (`Clustered`).
        """
        with torch.no_grad():
            scores_N = self.agent(self.features_ND).double()
            utilities: Tensor = self.agent.utilities(scores_N) if hasattr(self.agent, "utilities") else scores_N  # type: ignore[operator]
            return utilities.cpu().numpy()

    def query(self) -> np.ndarray:
        """Return the positions (B,) of the largest utilities, best first."""
        return plackett_luce.top(self.utilities(), self.budget)

    def state_dict(self) -> dict[str, Any]:
        """Return everything an equal object needs to go on.

        Plain data and tensors, so `torch.load` reads it with ``weights_only``.
        """
        return {
            "agent": self.agent.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "iteration": self.iteration,
            "reference": self.reference,
            "best": None if self._best is None else self._best.tolist(),
            "curves": [asdict(record) for record in self.curves],
            "own": [asdict(record) | {"batch": list(record.batch)} for record in self.own],
            "fall_backs": [asdict(record) | {"batch": list(record.batch)} for record in self.fall_backs],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was called; append ``records`` to the table, which must hold no later ones."""
        self.agent.load_state_dict(state["agent"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.iteration, self.reference = state["iteration"], state["reference"]
        self._best = None if state["best"] is None else np.array(state["best"], np.int64)
        self.curves = [Iteration(**record) for record in state["curves"]]
        self.fall_backs = [FallBack(r["iteration"], tuple(r["batch"]), r["reward"]) for r in state["fall_backs"]]
        self.own = [OwnBatch(**(r | {"batch": tuple(r["batch"])})) for r in state.get("own", ())]

    def _scores(self) -> Tensor:
        if not self.settings.reshuffle:
            return self.agent(self.features_ND)
        order = torch.from_numpy(self.rng.child(self.iteration).generator("order").permutation(len(self.features_ND)))
        return self.agent(self.features_ND[order])[order.argsort()]

    def _commit(
        self,
        plain_N: np.ndarray,
        draws: list[Draw],
        rewards: np.ndarray,
        reference: float,
        advantage: float,
        norm: float,
        worth: Worth,
    ) -> Iteration:
        best = np.sort(plackett_luce.top(plain_N, self.budget))
        shared = self.budget if self._best is None else len(np.intersect1d(best, self._best, assume_unique=True))
        overlap = shared / max(2 * self.budget - shared, 1)
        # by B already
        entropy = float(np.mean([plackett_luce.entropy_proxy(float(d.log_prob.detach()), 1) for d in draws]))
        self.fall_backs += worth.trained
        record = Iteration(
            self.iteration,
            float(rewards.mean()),
            reference,
            advantage,
            entropy,
            overlap,
            worth.mean("neighbors") or 0.0,
            worth.mean("distance_min"),
            worth.mean("distance_mean"),
            worth.mean("distance_std"),
            norm,
            len(self.fall_backs),
            worth.nearest_instead,
        )
        # Eq. (2)
        self.reference = update_reference(reference, record.reward, self.settings.decay, self.settings.reference)
        self._best = best
        self.curves.append(record)
        self.iteration += 1
        return record
