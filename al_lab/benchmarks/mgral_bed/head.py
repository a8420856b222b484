"""The bed's learner: a small head on frozen features that tells which classes an image shows.

It stands where the detector stands: trained with labels, its class-presence mAP is the truth; trained on with a batch
without labels, by consistency, it is the surrogate of a row. Several seeds are trained at once, as one wide layer.

Shapes: n images, D features, C classes, S seeds, W width of a head.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from al_lab.learners.class_gradient import binary_slopes, expected_change_of_each

_WIDTH = 64
_DROPOUT = 0.3
_STEPS = 150
_LR = 4e-3
_DECAY = 1e-3
_ROW_STEPS = 0.5  # a row goes on from the base for this fraction of the steps …
_ROW_LR = 0.1  # … at this fraction of the rate: MGRAL's presets for small machines
_NOISE = 0.2  # of features whose deviation is 1


@dataclass(frozen=True)
class Truth:
    """Images with what they show: (n, D) float32 and (n, C) bool."""

    x_ND: np.ndarray
    y_NC: np.ndarray


class Heads(nn.Module):
    """S independent heads D - W - C with dropout; each has the initial weights its seed names."""

    def __init__(self, dim: int, classes: int, seeds: Sequence[int]) -> None:
        super().__init__()
        first, last = [], []
        for seed in seeds:
            torch.manual_seed(seed)
            first.append(nn.Linear(dim, _WIDTH))
            last.append(nn.Linear(_WIDTH, classes))
        self.w1_DX = nn.Parameter(torch.cat([layer.weight.detach().T for layer in first], 1))
        self.b1_X = nn.Parameter(torch.cat([layer.bias.detach() for layer in first]))
        self.w2_SWC = nn.Parameter(torch.stack([layer.weight.detach().T for layer in last]))
        self.b2_SC = nn.Parameter(torch.stack([layer.bias.detach() for layer in last]))

    def hidden(self, x_ND: Tensor) -> Tensor:
        """Return the penultimate layer (n, S, W)."""
        h_NX = functional.dropout(functional.relu(x_ND @ self.w1_DX + self.b1_X), _DROPOUT, self.training)
        return h_NX.view(len(x_ND), len(self.b2_SC), _WIDTH)

    def forward(self, x_ND: Tensor) -> Tensor:
        """Return logits (n, S, C)."""
        return torch.einsum("nsw,swc->nsc", self.hidden(x_ND), self.w2_SWC) + self.b2_SC


def fit(train: Truth, seeds: Sequence[int]) -> Heads:
    """Train heads from scratch with labels: Adam on the whole set, binary cross-entropy a class."""
    heads = Heads(train.x_ND.shape[1], train.y_NC.shape[1], seeds)
    torch.manual_seed(seeds[0])
    return _descend(heads, train, None, _STEPS, _LR)


def go_on(base: Heads, train: Truth, unlabeled_BD: np.ndarray, seed: int) -> Heads:
    """Train a row: on from the base, with the labels it had and a batch without labels.

    What the head says of a mixture of two images has to be the mixture of what it says of them (ISD's first term; Jeong
    et al., CVPR 2021), and of an image with noise what it says without.
    """
    heads = Heads(train.x_ND.shape[1], train.y_NC.shape[1], [seed])
    heads.load_state_dict(base.state_dict())
    torch.manual_seed(seed)
    return _descend(heads, train, torch.from_numpy(unlabeled_BD), round(_ROW_STEPS * _STEPS), _ROW_LR * _LR)


def _descend(heads: Heads, train: Truth, unlabeled_BD: Tensor | None, steps: int, lr: float) -> Heads:
    x_ND = torch.from_numpy(train.x_ND)
    y_NSC = torch.from_numpy(train.y_NC.astype(np.float32))[:, None].expand(-1, len(heads.b2_SC), -1)
    optimizer = torch.optim.Adam(heads.parameters(), lr=lr, weight_decay=_DECAY, foreach=True)
    heads.train()
    for _ in range(steps):
        # the sum of S means: a head's gradients are its own
        loss = len(heads.b2_SC) * functional.binary_cross_entropy_with_logits(heads(x_ND), y_NSC)
        if unlabeled_BD is not None:
            loss = loss + _consistency(heads, unlabeled_BD)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return heads.eval()


def _consistency(heads: Heads, u_BD: Tensor) -> Tensor:
    order, share = torch.randperm(len(u_BD)), torch.rand(len(u_BD), 1)
    with torch.no_grad():
        said = heads(u_BD).sigmoid()
    mixed = heads(share * u_BD + (1 - share) * u_BD[order]).sigmoid()
    noisy = heads(u_BD + _NOISE * torch.randn_like(u_BD)).sigmoid()
    between = share[:, None] * said + (1 - share[:, None]) * said[order]
    return ((mixed - between) ** 2).mean() + ((noisy - said) ** 2).mean()


def probabilities(heads: Heads, x_ND: np.ndarray) -> np.ndarray:
    """Return the probability (n, S, C) of each class."""
    with torch.inference_mode():
        return np.asarray(heads(torch.from_numpy(x_ND)).sigmoid().numpy(), np.float64)


def expected_gains(head: Heads, x_ND: np.ndarray, known: Truth) -> np.ndarray:
    """Return what each image's labels change in the loss of known images on average, (n,), see `class_gradient`.

    Args:
        head: one seed's; the gradients are those of its last layer.
        x_ND: images without labels.
        known: images that are held out, with their labels.
    """
    with torch.inference_mode():
        h_VW, h_NW = (functional.pad(head.hidden(torch.from_numpy(x))[:, 0], (0, 1), value=1.0)
                      for x in (known.x_ND, x_ND))  # fmt: skip
        p_VC, p_NC = (head(torch.from_numpy(x))[:, 0].sigmoid() for x in (known.x_ND, x_ND))
        direction_CW = (p_VC - torch.from_numpy(known.y_NC.astype(np.float32))).T @ h_VW / len(h_VW)
        found = expected_change_of_each(p_NC, *binary_slopes(p_NC), h_NW @ direction_CW.T)
    return np.asarray(found.numpy(), np.float64)


def mean_ap(heads: Heads, truth: Truth) -> np.ndarray:
    """Return each head's mean over classes of the average precision of "shows the class", (S,) points."""
    p_NSC = probabilities(heads, truth.x_ND)
    order = np.argsort(-p_NSC, axis=0, kind="stable")
    hit = np.take_along_axis(np.broadcast_to(truth.y_NC[:, None], p_NSC.shape), order, 0)
    precision = np.cumsum(hit, 0) / np.arange(1, len(hit) + 1)[:, None, None]
    found: np.ndarray = 100 * ((precision * hit).sum(0) / np.maximum(hit.sum(0), 1)).mean(-1)
    return found
