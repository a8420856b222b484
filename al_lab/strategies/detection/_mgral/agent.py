"""The agent that reads the pool image by image and gives each a selection score (MGRAL, Sec. 3.2)."""

from collections.abc import Sequence
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from al_lab.core.rng import Rng
from al_lab.strategies.detection._mgral.recurrence import Backend, Feedback, Weights, recurrence

Order = Literal["perm", "dataset", "reshuffle"]


class Agent(nn.Module):
    """Recurrent scorer of the whole pool: an LSTM that reads [Phi(I_k); its last decision], and a decoder to a score.

    Liang et al., "Performance-guided Reinforced Active Learning for Object Detection", 2026 (arXiv 2601.15688), Sec.
    3.2 and Fig. 2. Step k: (h_k, c_k) = LSTM([Phi(I_k); p_k], h_{k-1}, c_{k-1});  s_k = Psi(h_k);  p_k =
    sigmoid(s_{k-1}).

    | paper | here | default | where stated |
    |---|---|---|---|
    | Phi(I_k) | ``features_ND`` | 256-d | Sec. 4.1 |
    | LSTM width | ``hidden`` | dim + 1 = 257 | Sec. 4.1 |
    | "previous unit's decision vector" | ``feedback`` | sigmoid of the last score | UNSPECIFIED; "+ 1 prev-score" says
    a scalar |
    | "dummy head" | ``dummy`` | learned s_0, starts at 0; h_0 = c_0 = 0 | UNSPECIFIED; Fig. 2 shows a module |
    | Psi_k, 2-layer MLP | ``decoder`` | 257-257-1, tanh, shared | UNSPECIFIED; the pool shrinks every cycle, so
    positions can't own decoders |
    | - | ``init`` | uniform(-0.1, 0.1) | UNSPECIFIED; practice of architecture search, whose Adam rate the paper uses |

    Scores depend on the order of the images: train and query in the same one (`sequence_order`). Keep the agent on the
    CPU: its compiled recurrence lives there, and 15,551 dependent steps leave a GPU idle.

    Args:
        dim: of the features.
        hidden: width of the LSTM; None: dim + 1.
        decoder_hidden: width of the decoder; None: as the LSTM.
        feedback: what is fed back of the last score: its sigmoid, itself, or nothing.
        bptt: cut gradients every so many images; None: through the whole pool.
        rng: names the initial weights.
        init: their bound.
    """

    def __init__(
        self,
        dim: int,
        rng: Rng,
        hidden: int | None = None,
        decoder_hidden: int | None = None,
        feedback: Feedback = "sigmoid",
        bptt: int | None = None,
        init: float = 0.1,
    ) -> None:
        super().__init__()
        hidden = hidden or dim + 1
        self.feedback, self.bptt = feedback, bptt
        self.lstm = nn.LSTMCell(dim + 1, hidden)
        self.decoder = nn.Sequential(
            nn.Linear(hidden, decoder_hidden or hidden), nn.Tanh(), nn.Linear(decoder_hidden or hidden, 1)
        )
        self.dummy = nn.Parameter(torch.zeros(()))
        for name, parameter in self.named_parameters():
            if name != "dummy":
                values = rng.generator("init", name).uniform(-init, init, size=tuple(parameter.shape))
                parameter.data.copy_(torch.from_numpy(values))

    def forward(self, features_ND: Tensor, backend: Backend = "auto") -> Tensor:
        """Return the scores (N,) of images in this order; higher is wanted more."""
        weight_GX = self.lstm.weight_ih  # X = D + 1, the last column is the fed-back decision's
        gates_NG = functional.linear(features_ND, weight_GX[:, :-1], self.lstm.bias_ih + self.lstm.bias_hh)
        first, last = cast(nn.Linear, self.decoder[0]), cast(nn.Linear, self.decoder[2])
        weights = Weights(
            self.lstm.weight_hh, weight_GX[:, -1], first.weight, first.bias, last.weight[0], last.bias, self.dummy
        )
        return recurrence(gates_NG, weights, self.feedback, self.bptt or 0, backend)


def sequence_order(ids: Sequence[str], rng: Rng, order: Order = "perm") -> np.ndarray:
    """Return the positions (N,) of the images in the order in which the agent reads them, in training and at the query.

    Args:
        ids: the candidates.
        rng: of the cycle.
        order: ``perm``: a permutation that depends on seed, cycle and ids, not on how the pool lists them; ``dataset``:
            as listed; ``reshuffle``: starts as ``perm``, and training shuffles it anew every iteration (see
            `Reinforce`).
    """
    if order == "dataset":
        return np.arange(len(ids))
    return np.argsort(rng.child("order").tie_keys(ids), kind="stable")
