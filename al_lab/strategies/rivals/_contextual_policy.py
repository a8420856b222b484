"""CDAL's learned picker: a recurrent network says how much it wants each image, a reward how varied its picks are.

Shapes: N images, C numbers of each, B picks.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from al_lab.acquisition.diversity.mixture_greedy import MixtureDistances
from al_lab.core.pool import ApartRows
from al_lab.core.rng import Rng

# all of the released code; the paper names the reward and REINFORCE
_DIVERSITY, _COVERAGE = 1.5, 0.5  # R = 1.5 CD + 0.5 V
_WIDTH = 50.0  # of V: exp(-mean / 50)
_HIDDEN, _DECISION = 256, 512
_LR, _WEIGHT_DECAY, _LR_STEP = 1e-2, 1e-5, 10
_SHARE, _SHARE_WEIGHT = 0.5, 0.01  # mean q is drawn to one half
_KEEP = 0.9  # of the baseline
_BLOCK = 4096  # images compared with all picks at once


class Reward(NamedTuple):
    """R = 1.5 CD + 0.5 V of some picks: their mean divergence, and how near every image is to one of them."""

    diversity: float
    coverage: float

    @property
    def value(self) -> float:
        """R."""
        return _DIVERSITY * self.diversity + _COVERAGE * self.coverage


def reward(distances: MixtureDistances, mixtures_NC: np.ndarray, picks: np.ndarray) -> Reward:
    """Return what picks are worth.

    CDAL-RL (ECCV 2020, Sec. 3.3):  CD = mean over ordered pairs of picks, with themselves, of J;
    V = exp(-1/50 mean_i min_{j in picks} |m_i - m_j|^2).
    """
    m_NC = np.asarray(mixtures_NC, np.float64)
    nearest = [
        ((part_NC[:, None] - m_NC[picks]) ** 2).sum(2).min(1)
        for part_NC in np.array_split(m_NC, max(1, len(m_NC) * len(picks) // (_BLOCK * 64)))
    ]
    diversity = float(distances.to(picks)[picks].mean())
    return Reward(diversity, float(np.exp(-np.concatenate(nearest).mean() / _WIDTH)))


def policy_loss(wish_N: Tensor, action_N: Tensor, advantage: float) -> Tensor:
    """Return -(R - b) mean_k ln Bern(a_k; q_k) + 0.01 (mean q - 0.5)^2: REINFORCE of one episode."""
    log_prob = torch.distributions.Bernoulli(wish_N).log_prob(action_N).mean()
    return -advantage * log_prob + _SHARE_WEIGHT * (wish_N.mean() - _SHARE) ** 2


class Policy(nn.Module):
    """q_k in (0, 1) of each image of a sequence: BiLSTM, two linear layers without anything between, a sigmoid."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.recurrence = nn.LSTM(width, _HIDDEN, bidirectional=True)
        self.decide = nn.Sequential(nn.Linear(2 * _HIDDEN, _DECISION), nn.Linear(_DECISION, 1))

    def forward(self, mixtures_NC: Tensor) -> Tensor:
        """Return (N,)."""
        return torch.sigmoid(self.decide(self.recurrence(mixtures_NC)[0]).squeeze(-1))


def learn_picks(
    mixtures: np.ndarray, amount: int, epochs: int, rng: Rng, apart: ApartRows | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Train a policy on the images and return the picks that were rewarded most.

    The picks are the ``amount`` largest q, while the log-probabilities are of drawn actions: biased, as in the released
    code. The order of the images is the order of the sequence, so it decides too.

    Args:
        mixtures: (N, C) or (N, R, C).
        amount: B.
        epochs: of one episode each.
        rng: of weights and actions.
        apart: images that may not be picked together.

    Returns:
        (B,) rows, the most wanted first, and their q.
    """
    distances, flat_NC = MixtureDistances(mixtures), np.asarray(mixtures, np.float32).reshape(len(mixtures), -1)
    baseline, best = 0.0, -np.inf
    chosen: tuple[np.ndarray, np.ndarray] = (np.zeros(0, np.int64), np.zeros(0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.seed("policy"))
        policy, inputs = Policy(flat_NC.shape[1]), torch.from_numpy(flat_NC)
        optimizer = torch.optim.Adam(policy.parameters(), lr=_LR, weight_decay=_WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, _LR_STEP)
        for _ in range(epochs):
            wish_N = policy(inputs)
            q_N = wish_N.detach().double().numpy()
            ranked = np.argsort(-q_N, kind="stable")
            picks = ranked[:amount] if apart is None else apart.first(ranked, amount)
            got = reward(distances, flat_NC, picks).value
            if got > best:
                best, chosen = got, (picks, q_N[picks])
            optimizer.zero_grad()
            policy_loss(wish_N, torch.bernoulli(wish_N.detach()), got - baseline).backward()
            optimizer.step()
            schedule.step()
            baseline = _KEEP * baseline + (1 - _KEEP) * got
    return chosen
