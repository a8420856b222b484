"""k-medoids on a matrix of distances, from centers that are far apart."""

import numpy as np


def far_apart(distance_NN: np.ndarray, amount: int, first: int) -> list[int]:
    """Return rows by greedy k-center from row ``first``; equally far ones by position."""
    radius_N, order = distance_NN[first].copy(), [first]
    radius_N[first] = -np.inf
    while len(order) < min(amount, len(distance_NN)):
        best = int(radius_N.argmax())
        order.append(best)
        np.minimum(radius_N, distance_NN[best], out=radius_N)
        radius_N[best] = -np.inf
    return order


def k_medoids(distance_NN: np.ndarray, amount: int, first: int, rounds: int = 100) -> list[int]:
    """Return the medoids of ``amount`` clusters, by Lloyd's rounds from `far_apart` centers.

    PPAL (CVPR 2024, Sec. 3.3): each image joins its nearest center; the member with the smallest sum of distances to
    its cluster is the next center.

    Args:
        distance_NN: symmetric.
        amount: K, at most N.
        first: the row to start from.
        rounds: at most; fewer where nothing changes any more.

    Returns:
        K different rows; of equal ones the first, for centers and for members.
    """
    centers = far_apart(distance_NN, amount, first)
    for _ in range(rounds):
        nearest_N = distance_NN[:, centers].argmin(1)
        nearest_N[centers] = np.arange(len(centers))  # equal images would leave a cluster without any
        moved = []
        for k in range(len(centers)):
            members = np.flatnonzero(nearest_N == k)
            moved.append(int(members[distance_NN[np.ix_(members, members)].sum(1).argmin()]))
        if moved == centers:
            break
        centers = moved
    return centers
