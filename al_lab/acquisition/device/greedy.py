"""Density-aware greedy where the features are: the host waits a few times a block of picks, not for each.

Shapes: N candidates, D dimensions, K centers, F points of the front, J picks of a block.

As on a CPU, a pick only depends on the points of largest radius. All radii are exact, in float64 and by differences. So
J picks are made among the front without asking how they went; those before which the best of the front was above every
point outside are the loop's, the others are forgotten. Then every point is compared with the block's centers: a product
(float64, no TF32 in it) says for which pairs the radius may fall, and only those are measured.
"""

import numpy as np
import torch
from torch import Tensor

_FRONT = 4096
_BLOCK = 64  # picks without a look at them
_CENTERS = 256  # of one product
_PAIRS = 1 << 18  # measured at once
_LAST = torch.iinfo(torch.int64).max


class DeviceGreedy:
    """One selection.

    Args:
        x_ND: the candidates' features, on the device.
        density_N: theirs, > 0.
        rank_N: int64, unique; of equal radii the smallest is picked.
        front: points looked at in a block.
    """

    def __init__(self, x_ND: Tensor, density_N: np.ndarray, rank_N: np.ndarray, front: int = _FRONT) -> None:
        self.x_ND, self.front, self.num_settled = x_ND.double(), front, 0
        self.density_N = torch.as_tensor(density_N, dtype=torch.float64, device=x_ND.device)
        self.rank_N = torch.as_tensor(rank_N, dtype=torch.int64, device=x_ND.device)
        self.square_N = self.x_ND.square().sum(1)
        # Of a product, absolutely: (D + 8) u (|x|^2 + |c|^2) at most, and that of its use; twice that leaves no doubt.
        self.slack = 4 * (x_ND.shape[1] + 8) * float(np.finfo(np.float64).eps)
        self.radius_N = torch.full((len(x_ND),), torch.inf, dtype=torch.float64, device=x_ND.device)
        self.order: list[int] = []
        self.picked: list[float] = []

    def settle(self, c_KD: Tensor, density_K: Tensor) -> None:
        """Lower every radius: r_n = min(r_n, |x_n - c_k|^2 / d_k) over k; (K, D) and (K,) float64."""
        start = 0
        while start < len(c_KD):
            stop = start + min(_CENTERS, 1 + 4 * self.num_settled)  # few, while all radii fall
            c, d = c_KD[start:stop], density_K[start:stop]
            size_NK = self.square_N[:, None] + c.square().sum(1)
            least_NK = size_NK * (1 - self.slack) - 2 * (self.x_ND @ c.T)
            # once more for the rounding of a division
            may_NK = least_NK * (1 - self.slack) < self.radius_N[:, None] * d
            for pairs in may_NK.nonzero().split(_PAIRS):
                n, k = pairs.T
                self.radius_N.scatter_reduce_(0, n, (self.x_ND[n] - c[k]).square().sum(1) / d[k], "amin")
            self.num_settled += len(c)
            start = stop

    def run(self, budget: int, first: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Return ``budget`` <= N picks, and the radius of each when it was picked; inf for one without centers.

        Args:
            budget: how many.
            first: the first one if there are no centers; None: that of the smallest rank.
        """
        if budget and bool(self.radius_N[0].isinf()):
            self._take([int(self.rank_N.argmin()) if first is None else first], [np.inf])
        while len(self.order) < budget:
            at_J, best_J = self._block(min(_BLOCK, budget - len(self.order)))
            if at_J:
                self._take(at_J, best_J)
            elif not self._pick_among_all(budget):
                break
        return np.array(self.order, np.int64), np.array(self.picked, np.float64)

    def _take(self, positions: list[int], radii: list[float]) -> None:
        self.order += positions
        self.picked += radii
        at = torch.tensor(positions, device=self.x_ND.device)
        self.settle(self.x_ND[at], self.density_N[at])
        self.radius_N.index_fill_(0, at, -torch.inf)

    def _block(self, count: int) -> tuple[list[int], list[float]]:
        """Return what can be decided among the candidates of the front, at most ``count``; none if that is nothing."""
        front = min(self.front, len(self.radius_N))
        largest = self.radius_N.topk(min(front + 1, len(self.radius_N)))
        position_F, radius_F = largest.indices[:front], largest.values[:front].clone()
        outside = largest.values[front:]  # empty, if all are in the front
        x_FD, density_F, rank_F = self.x_ND[position_F], self.density_N[position_F], self.rank_N[position_F]
        picks, bests = [], []
        for _ in range(count):
            best = radius_F.max()
            at = torch.where(radius_F == best, rank_F, _LAST).argmin().reshape(1)
            picks.append(position_F[at])
            bests.append(best)
            radius_F = torch.minimum(radius_F, (x_FD - x_FD[at]).square().sum(1) / density_F[at])
            radius_F.index_fill_(0, at, -torch.inf)
        best_J = torch.stack(bests)
        is_sure_J = best_J > (outside if len(outside) else -torch.inf)
        # nothing is measured between candidates that lie on centers
        is_sure_J &= best_J > 0
        seen = torch.stack([torch.cat(picks).double(), best_J, is_sure_J.double()]).tolist()
        num = int(sum(seen[2]))
        return [int(at) for at in seen[0][:num]], seen[1][:num]

    def _pick_among_all(self, budget: int) -> bool:
        """Pick the first of more equal candidates than the front holds; False if the rest lies on centers."""
        best = self.radius_N.max()
        tied = (self.radius_N == best).nonzero()[:, 0]
        tied = tied[self.rank_N[tied].argsort()]
        if best > 0:
            self._take([int(tied[0])], [float(best)])
            return True
        rest = tied[: budget - len(self.order)].tolist()
        self.order += rest
        self.picked += [0.0] * len(rest)
        return False
