"""How far two class distributions are apart; one home for training and acquisition.

``distribution`` turns all kinds of heads into rows to which the same formulas apply. A softmax row is one choice among
C + 1 classes, or among C without background (``softmax_fg``). A sigmoid row is C independent yes/no questions, written
as (p_1 … p_C, 1 - p_1 … 1 - p_C): entropies and divergences of independent variables add, so a plain sum over the row
is the sum over the C questions.
"""

import math

import torch
from torch import Tensor

from al_lab.acquisition.uncertainty import entropy


def distribution(probs: Tensor, activation: str) -> Tensor:
    """Return rows (…, K) for the functions below.

    Softmax probabilities as they are, sigmoid ones with their complements.
    """
    return torch.cat([probs, 1 - probs], dim=-1) if activation == "sigmoid" else probs


def kl(p: Tensor, q: Tensor, eps: float = 0.0) -> Tensor:
    """Kullback-Leibler divergence KL(p || q) = sum_k p_k (ln p_k - ln q_k), in nats.

    Args:
        p: (…, K).
        q: (…, K).
        eps: added to both first, without renormalizing (CSD's, ISD's and AL-SSL's training: 1e-7).
    """
    p, q = p + eps, q + eps
    return (p * (_log(p) - _log(q))).sum(-1)


def symmetric_kl(p: Tensor, q: Tensor, eps: float = 0.0, detach: bool = False) -> Tensor:
    """J(p, q) = 1/2 [KL(p || q) + KL(q || p)] = 1/2 sum_k (p_k - q_k)(ln p_k - ln q_k), in nats.

    Args:
        p: (…, K).
        q: (…, K).
        eps: see `kl`.
        detach: each direction's first distribution is a fixed target. The value stays J; the gradient by the logits
            becomes 1/2 (p - q) and 1/2 (q - p), which is not the gradient of J.
    """
    p_target, q_target = (p.detach(), q.detach()) if detach else (p, q)
    return 0.5 * (kl(p_target, q, eps) + kl(q_target, p, eps))


def jensen_shannon(p: Tensor, q: Tensor, eps: float = 0.0) -> Tensor:
    """JS(p, q) = 1/2 KL(p || m) + 1/2 KL(q || m), m = (p + q) / 2, in nats, at most ln 2 for softmax rows."""
    mean = (p + q) / 2
    return 0.5 * (kl(p, mean, eps) + kl(q, mean, eps))


def normalized_entropy(probs: Tensor, activation: str) -> Tensor:
    """Entropy of each row divided by its largest possible value, in [0, 1]; higher is less sure.

    softmax: -sum_c p_c ln p_c / ln(C + 1), background included; softmax_fg: the same / ln C.  sigmoid: sum_c Hb(p_c) /
    (C ln 2).
    """
    h = entropy(distribution(probs, activation))
    num = probs.shape[-1]
    return h / (num * math.log(2) if activation == "sigmoid" else math.log(max(num, 2)))


def _log(values: Tensor) -> Tensor:
    # A float32 softmax underflows to 0; an infinite divergence would rank nothing.
    return values.clamp_min(torch.finfo(torch.float32).tiny).log()
