"""Logistic regression on a few numbers, by Newton's method: small, exact, and the same on every machine."""

import numpy as np

_ROUNDS = 50
_TOLERANCE = 1e-10
_LARGEST = 30.0  # of a logit: beyond it sigma is 0 or 1 to any use


def fit(x_NF: np.ndarray, y_N: np.ndarray, ridge: float) -> np.ndarray:
    """Return weights and, last, the bias of the regression of y on x, (F + 1,) float64.

    Minimizes -sum_n ln p(y_n | x_n) + ridge / 2 |w|^2 over standardized features (the bias is not shrunk); the weights
    returned are those of the features as they are. A feature without spread has weight 0.

    Args:
        x_NF: features.
        y_N: bool.
        ridge: > 0, so that separable data have a finite answer.
    """
    mean_F, spread_F = x_NF.mean(0), x_NF.std(0)
    scale_F = np.where(spread_F > 0, spread_F, np.inf)
    z = np.concatenate([(x_NF - mean_F) / scale_F, np.ones((len(x_NF), 1))], 1)
    shrink = np.diag([*np.full(x_NF.shape[1], ridge), 1e-9])
    w = np.zeros(z.shape[1])
    for _ in range(_ROUNDS):
        p_N = sigma(z @ w)
        gradient = z.T @ (p_N - y_N) + shrink @ w
        hessian = (z * (p_N * (1 - p_N))[:, None]).T @ z + shrink
        step = np.linalg.solve(hessian, gradient)
        w -= step * min(1.0, 5.0 / max(np.abs(step).max(), 1e-300))  # far from the answer Newton may leap too far
        if np.abs(step).max() < _TOLERANCE:
            break
    slope_F = w[:-1] / scale_F
    return np.append(slope_F, w[-1] - slope_F @ mean_F)


def sigma(logits: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + e^-x)."""
    return 1 / (1 + np.exp(-np.clip(logits, -_LARGEST, _LARGEST)))
