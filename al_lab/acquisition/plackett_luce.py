"""Ordered draws without replacement from scores: how to sample a batch, and how likely that batch was.

Plackett-Luce (Plackett 1975; Luce 1959): pick one of N items with probability proportional to exp(s_k), put it aside,
pick the next among the rest, B times. Adding independent Gumbel noise to every score and taking the B largest, largest
first, is an exact draw (Yellott 1977).

Shapes: N items, B picks.

| symbol | here | meaning |
|---|---|---|
| s | ``scores_N`` | unnormalized log-probabilities |
| pi | ``picks_B`` | positions of the picks, first pick first |
| g | ``noise_N`` | independent Gumbel(0, 1) noise |
| Z_j | ``log_rest_B.exp()`` | mass of what is left just before pick j |
"""

import numpy as np
import torch
from torch import Tensor


def gumbel_noise(num: int, generator: np.random.Generator) -> np.ndarray:
    """Return (N,) float64 draws from Gumbel(0, 1)."""
    return generator.gumbel(size=num)


def top(scores_N: np.ndarray, budget: int, noise_N: np.ndarray | None = None) -> np.ndarray:
    """Return the positions of the largest scores, largest first; equal ones by position.

    With Gumbel noise this is an ordered Plackett-Luce draw, without noise its mode: the B largest scores.

    Args:
        scores_N: finite.
        budget: how many; all if there are fewer.
        noise_N: see `gumbel_noise`.

    Returns:
        (min(B, N),) int64.

    Raises:
        ValueError: if a score is not finite.
    """
    keys = np.asarray(scores_N, np.float64)
    if not np.isfinite(keys).all():
        first = int(np.flatnonzero(~np.isfinite(keys))[0])
        raise ValueError(
            f"top: expected finite scores, got {keys[first]} at position {first} of {len(keys)}; the agent diverged"
        )
    if noise_N is not None:
        keys = keys + noise_N
    budget = min(budget, len(keys))
    if budget <= 0:
        return np.zeros(0, np.int64)
    least = np.partition(keys, len(keys) - budget)[len(keys) - budget]
    candidates = np.flatnonzero(keys >= least)  # more than B only where the last place is tied
    return candidates[np.argsort(-keys[candidates], kind="stable")[:budget]]


def log_prob(scores_N: Tensor, picks_B: Tensor | np.ndarray) -> Tensor:
    """Log-probability of an ordered draw; differentiable by the scores, in O(N).

    ln p(pi | s) = sum_{j=1..B} [ s_{pi_j} - ln Z_j ],   Z_j = sum_{k not in {pi_1 .. pi_{j-1}}} exp(s_k),
    d ln p / d s_i = 1[i = pi_m] - exp(s_i) sum_{j <= m(i)} 1 / Z_j,  m(i) = the place of i, B if it was not picked.

    Z_B is the mass of what was never picked plus the last pick, and each earlier Z_j adds one pick: one running
    log-sum-exp from the end gives them all. In float64 whatever the scores are: in float32 the terms of 15,000 items
    lose the third digit.

    Args:
        scores_N: the scores that were drawn from, without the noise.
        picks_B: distinct positions, in the order of the draw.

    Returns:
        scalar, float64, <= 0.
    """
    picks = torch.as_tensor(picks_B, device=scores_N.device)
    s_N = scores_N.double()
    s_B = s_N[picks]
    from_last_B = s_B.flip(0)
    if len(picks) < len(s_N):
        is_left = torch.ones(len(s_N), dtype=torch.bool, device=s_N.device)
        is_left[picks] = False
        # ln Z_B .. ln Z_1
        log_rest_B = torch.cat([s_N[is_left].logsumexp(0, keepdim=True), from_last_B]).logcumsumexp(0)[1:]
    else:
        log_rest_B = from_last_B.logcumsumexp(0)
    return s_B.sum() - log_rest_B.sum()


def entropy_proxy(log_prob_of_draw: float, budget: int) -> float:
    """Return -ln p(pi | s) / B, in nats a pick: an unbiased one-draw estimate of the policy's entropy divided by B.

    The exact entropy is a sum over all ordered batches. A uniform policy gives about ln N, a deterministic one 0.
    """
    return -log_prob_of_draw / max(budget, 1)
