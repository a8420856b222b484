"""How scores become a batch while the agent learns, and how likely that batch was.

The paper only says "top-B scores" and loss = -delta mAP, in which no gradient reaches the agent; a score-function
estimator needs a policy. Sec. 3.2 bases the reward on the top-B selection itself: that is `mode`
(``learning.reward_of=top``), while a batch that was drawn (``draw``, the default) makes the gradient an unbiased one of
the expected reward, and explores.

While scores differ by much less than 1, draws are nearly uniform, and the B largest scores, which the query takes, are
a batch that nobody ever rewarded. ``agent.query=annealed`` (beyond the paper) divides scores by a temperature that
falls as the agent learns, so that it ends where the query is:

    T_i = min(1, sd(s) / 6) ^ (i / (I - 1))
"""

from typing import Literal, NamedTuple

import numpy as np
from torch import Tensor
from torch.nn import functional

from al_lab.acquisition import bernoulli, plackett_luce

Policy = Literal["pl", "bernoulli", "cond_bernoulli", "topb_surrogate"]

SHARPEST = 6.0  # deviation of the scores, divided by the temperature, at the end: draws are the mode but for its edge


class Draw(NamedTuple):
    """A batch: its positions (B,), and its log-probability divided by B, differentiable by the scores."""

    batch: np.ndarray
    log_prob: Tensor


def draw(policy: Policy, scores_N: Tensor, budget: int, generator: np.random.Generator) -> Draw:
    """Draw a batch.

    ``pl``: ordered, without replacement (Plackett-Luce by Gumbel noise); exact, and its mode is the query's top-B.
    ``cond_bernoulli``: each image on its own, given that B are taken; exact, O(N B). ``bernoulli``: each on its own, of
    those taken the B best (best of the others if too few): the reward is not that of what was drawn, so the gradient is
    biased. ``topb_surrogate``: no draw but the `mode`. The log-probability is that of the scores, never of the noisy
    ones.
    """
    if policy == "topb_surrogate":
        return mode(policy, scores_N, budget)
    plain_N = scores_N.detach().double().cpu().numpy()
    if policy == "pl":
        batch = plackett_luce.top(plain_N, budget, plackett_luce.gumbel_noise(len(plain_N), generator))
        log_prob = plackett_luce.log_prob(scores_N, batch)
    elif policy == "cond_bernoulli":
        law = bernoulli.FixedSize(plain_N, budget)
        batch = law.draw(generator)
        log_prob = law.log_prob(scores_N, batch)
    else:
        is_taken = generator.random(len(plain_N)) < 1 / (1 + np.exp(-np.clip(plain_N, -500, 500)))
        order = plackett_luce.top(plain_N, len(plain_N))
        batch = order[np.argsort(~is_taken[order], kind="stable")][:budget]
        log_prob = bernoulli.log_prob(scores_N, np.flatnonzero(is_taken))
    return Draw(batch, log_prob / max(len(batch), 1))


def mode(policy: Policy, scores_N: Tensor, budget: int) -> Draw:
    """Return the batch that would be bought, the B largest scores, and how likely the policy draws it.

    ``topb_surrogate`` stands for what Eq. (3) read literally comes to: mean ln sigma(s) of these images alone. Nothing
    is explored but by the scores' own movement, so a batch is left only where it was worth less than the reference.
    """
    plain_N = scores_N.detach().double().cpu().numpy()
    batch = plackett_luce.top(plain_N, budget)
    if policy == "pl":
        log_prob = plackett_luce.log_prob(scores_N, batch)
    elif policy == "cond_bernoulli":
        log_prob = bernoulli.FixedSize(plain_N, budget).log_prob(scores_N, batch)
    elif policy == "bernoulli":
        log_prob = bernoulli.log_prob(scores_N, batch)
    else:
        log_prob = functional.logsigmoid(scores_N.double()[batch]).sum()
    return Draw(batch, log_prob / max(len(batch), 1))


def temperature(done: float, deviation: float) -> float:
    """Return what scores are divided by: 1 at the start, and at the end such that their deviation is `SHARPEST`.

    In between it falls by the same factor each iteration.

    Args:
        done: share of the training that is behind, in [0, 1].
        deviation: of the scores.
    """
    return float(min(1.0, max(deviation, 1e-12) / SHARPEST) ** done)
