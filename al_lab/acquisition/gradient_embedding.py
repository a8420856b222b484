"""BADGE's choice: gradients of the last layer, spread out by k-means++ seeding, without ever writing one down.

Shapes: N points, C classes, D dimensions, B picks, T tiles of P = `TILE` points.

A pick only changes points that lie nearer to it than to all earlier ones, and neighbors in an image mostly have alike
gradients. On a CPU points are therefore kept tile by tile, with one member and a radius for each: by the triangle
inequality most tiles are surely too far from a pick, and so are most points of the others. On a GPU, where a pass over
all points costs less than a decision, every pick looks at everything. Draws are the same.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from al_lab.acquisition.tiles import TILE

_BLOCK = 512  # weights summed at once, in the points' order
_MANY = 4
_CHUNK = 128  # tiles whose distances among themselves are computed at once


@dataclass(frozen=True)
class Seeds:
    """Picks in order.

    Attributes:
        order: (B,) int64 indices.
        squared: (B,) squared distance to the nearest earlier pick; of the first, its own squared length.
    """

    order: np.ndarray
    squared: np.ndarray


class GradientEmbeddings:
    """g_i = a_i (outer product) phi_i with a_i = onehot(argmax p_i) - p_i.

    Minus the gradient of the cross-entropy with the model's own guess.

    Ash et al., "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds", ICLR 2020 (arXiv 1906.03671),
    Eq. (1). N x C D numbers are never stored: <g_i, g_j> = <a_i, a_j> <phi_i, phi_j>. Float64, where the features are.

    Args:
        probs: (N, C), rows sum to 1.
        features: phi, (N, D), the penultimate layer.
    """

    def __init__(self, probs: Tensor | np.ndarray, features: Tensor | np.ndarray) -> None:
        self.phi_ND = torch.as_tensor(features).double().contiguous()
        p_NC = torch.as_tensor(probs).to(self.phi_ND)
        self.guess_N = p_NC.argmax(1)
        self.a_NC = torch.zeros_like(p_NC).scatter_(1, self.guess_N[:, None], 1.0) - p_NC
        self.squared_norm_N = self.a_NC.square().sum(1) * self.phi_ND.square().sum(1)

    def __len__(self) -> int:
        return len(self.squared_norm_N)

    def squared_distance(self, index: int | Tensor) -> Tensor:
        """Return |g_i - g_index|^2 for every i, (N,) >= 0; an index in a (1,) tensor never leaves its device."""
        at = torch.as_tensor(index, device=self.phi_ND.device).reshape(1)
        inner_N = (self.a_NC @ self.a_NC[at].T)[:, 0] * (self.phi_ND @ self.phi_ND[at].T)[:, 0]
        return (self.squared_norm_N + self.squared_norm_N[at] - 2 * inner_N).clamp_(min=0)


def k_means_pp(
    points: GradientEmbeddings, budget: int, generator: np.random.Generator, near: np.ndarray | None = None
) -> Seeds:
    """Pick the longest gradient, then the others at random.

    Each next one has a probability proportional to its squared distance to the nearest pick. Where all that is left
    coincides with a pick, the lowest index is next. Sums in another order differ in their last digits, so where the
    points are doesn't matter to a draw, unless it falls within about 1e-15 of the border between two points.

    Args:
        points: N gradients.
        budget: picks; all N if there are fewer.
        generator: of the draws.
        near: (N,) an order in which points that follow each other are alike; for speed on a CPU only.
    """
    budget = min(budget, len(points))
    draws = generator.random(max(budget - 1, 0))
    if not budget or points.phi_ND.device.type != "cpu":
        return by_whole_passes(points, draws) if budget else Seeds(np.zeros(0, np.int64), np.zeros(0))
    return _Near(points, np.arange(len(points)) if near is None else near).run(draws)


def by_whole_passes(points: GradientEmbeddings, draws: np.ndarray) -> Seeds:
    """Look at all points for every pick; picks stay on the points' device until the last one.

    Args:
        points: N gradients, at least one.
        draws: (B - 1,) numbers in [0, 1), B <= N.
    """
    device, size = points.phi_ND.device, len(draws) + 1
    order = torch.zeros(size, dtype=torch.int64, device=device)
    squared, draw_B = torch.zeros(size, dtype=torch.float64, device=device), torch.as_tensor(draws, device=device)
    is_open_N = torch.ones(len(points), dtype=torch.bool, device=device)
    index = points.squared_norm_N.argmax(0, keepdim=True)
    order[:1], squared[:1] = index, points.squared_norm_N[index]
    nearest_N = torch.full_like(points.squared_norm_N, torch.inf)
    for k in range(1, size):
        is_open_N.index_fill_(0, index, value=False)
        nearest_N = torch.minimum(nearest_N, points.squared_distance(index))
        total_N = torch.where(is_open_N, nearest_N, 0.0).cumsum(0)
        drawn = torch.searchsorted(total_N, draw_B[k - 1 : k] * total_N[-1:], right=True)
        within = drawn.clamp(max=len(points) - 1)
        is_good = (drawn == within) & is_open_N[within]
        index = torch.where(is_good, within, is_open_N.to(torch.uint8).argmax(0, keepdim=True))
        order[k : k + 1], squared[k : k + 1] = index, nearest_N[index]
    return Seeds(order.cpu().numpy(), squared.cpu().numpy())


class _Near:
    """The state of one selection on a CPU; places count points tile by tile, the last tile filled up.

    Rounding of a squared distance is at most ``error``: nothing is passed over that a whole pass would have changed.
    """

    def __init__(self, points: GradientEmbeddings, near: np.ndarray) -> None:
        # a_i jumps where the guess changes, which neighbors at a border do
        near = near[np.argsort(points.guess_N.numpy()[near], kind="stable")]
        num_tiles = -(-len(near) // TILE)
        self.point_Q = np.concatenate([near, np.repeat(near[-1:], num_tiles * TILE - len(near))])
        self.a_QC, self.phi_QD = points.a_NC.numpy()[self.point_Q], points.phi_ND.numpy()[self.point_Q]
        self.norm_Q = points.squared_norm_N.numpy()[self.point_Q]
        dims = self.a_QC.shape[1] + self.phi_QD.shape[1] + 16
        self.error = 8 * dims * np.finfo(np.float64).eps * float(self.norm_Q.max())
        self.points = points
        # -inf and a weight of 0 of what is picked or fills up
        self.nearest_TP = np.full((num_tiles, TILE), np.inf)
        self.nearest_Q = self.nearest_TP.reshape(-1)
        self.nearest_Q[len(near) :] = -np.inf
        self.farthest_T = np.full(num_tiles, np.inf)  # the largest of each tile
        self.place_N = np.empty(len(near), np.int64)
        self.place_N[near] = np.arange(len(near))
        self.is_open_N = np.ones(len(near), bool)
        self.weight_SB = np.zeros((-(-len(near) // _BLOCK), _BLOCK))
        self.weight_N = self.weight_SB.reshape(-1)
        self._choose_members()

    def _choose_members(self) -> None:
        """Take as the middle of each tile its member that is nearest to the farthest of the others."""
        tiles = len(self.nearest_TP)
        member_T, self.apart_TP = np.zeros(tiles, np.int64), np.zeros((tiles, TILE))
        for start in range(0, tiles, _CHUNK):
            some = slice(start * TILE, (start + _CHUNK) * TILE)
            a, phi = (x[some].reshape(-1, TILE, x.shape[1]) for x in (self.a_QC, self.phi_QD))
            norm = self.norm_Q[some].reshape(-1, TILE)
            inner = (a @ a.transpose(0, 2, 1)) * (phi @ phi.transpose(0, 2, 1))
            squared = np.maximum(norm[:, :, None] + norm[:, None] - 2 * inner, 0)
            best = squared.max(2).argmin(1)
            member_T[start : start + _CHUNK] = best + TILE * np.arange(start, start + len(best))
            self.apart_TP[start : start + _CHUNK] = np.sqrt(squared[np.arange(len(best)), best] + self.error)
        self.ball_T = self.apart_TP.max(1)
        self.member_TC, self.member_TD = self.a_QC[member_T], self.phi_QD[member_T]
        self.member_norm_T = self.norm_Q[member_T]

    def run(self, draws: np.ndarray) -> Seeds:
        order, squared = np.zeros(len(draws) + 1, np.int64), np.zeros(len(draws) + 1)
        norm_N = self.points.squared_norm_N.numpy()
        order[0] = norm_N.argmax()
        squared[0] = norm_N[order[0]]
        self.weight_N[: len(norm_N)] = np.inf
        for k in range(1, len(order)):
            self._settle(int(order[k - 1]))
            index = self._drawn(float(draws[k - 1]))
            order[k], squared[k] = index, self.weight_N[index]
        return Seeds(order, squared)

    def _settle(self, index: int) -> None:
        """Make a pick count for every point that it is the nearest to."""
        a_C, phi_D = self.points.a_NC.numpy()[index], self.points.phi_ND.numpy()[index]
        norm = float(self.points.squared_norm_N[index])
        inner_T = (self.member_TC @ a_C) * (self.member_TD @ phi_D)
        # at least so far from the pick is each tile's member
        least_T = np.sqrt(np.maximum(self.member_norm_T + norm - 2 * inner_T - self.error, 0))
        tiles = np.flatnonzero(_below(least_T - self.ball_T, self.error) < self.farthest_T)
        may_TP = _below(least_T[tiles, None] - self.apart_TP[tiles], self.error) < self.nearest_TP[tiles]
        tile, place = np.nonzero(may_TP)
        place_S = tiles[tile] * TILE + place
        if _MANY * len(place_S) > len(self.norm_Q):  # copies of so many cost more than the others' products
            inner_S = ((self.a_QC @ a_C) * (self.phi_QD @ phi_D))[place_S]
        else:
            inner_S = (self.a_QC.take(place_S, 0) @ a_C) * (self.phi_QD.take(place_S, 0) @ phi_D)
        squared_S = np.maximum(self.norm_Q[place_S] + norm - 2 * inner_S, 0)
        is_nearer_S = squared_S < self.nearest_Q[place_S]
        place_S, squared_S = place_S[is_nearer_S], squared_S[is_nearer_S]
        self.nearest_Q[place_S] = self.weight_N[self.point_Q[place_S]] = squared_S
        changed = np.unique(place_S // TILE)
        self.farthest_T[changed] = self.nearest_TP[changed].max(1)
        self.is_open_N[index], self.weight_N[index], self.nearest_Q[self.place_N[index]] = False, 0, -np.inf

    def _drawn(self, draw: float) -> int:
        """Return the point at a share of all weights; the first open one where there is none."""
        total_S = self.weight_SB.sum(1).cumsum()
        block = int(np.searchsorted(total_S, draw * total_S[-1], side="right"))
        if block == len(total_S):
            return int(self.is_open_N.argmax())
        before = total_S[block - 1] if block else 0.0
        within = int(np.searchsorted(before + self.weight_SB[block].cumsum(), draw * total_S[-1], side="right"))
        # its sum by itself may end a digit earlier
        return block * _BLOCK + min(within, int(np.flatnonzero(self.weight_SB[block])[-1]))


def _below(distance: np.ndarray, error: float) -> np.ndarray:
    """Return what a squared distance is at least, given what the distance is at least."""
    return np.square(np.maximum(distance, 0)) - error
