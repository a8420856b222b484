"""Learned predictors in place of the table (beyond MGRAL, which calls "prediction networks" future work).

Shapes: M records, F inputs of a set in G groups (`SetInputs`).

The table answers with an average of neighbors, so never with more than its best record, and all random batches are
nearly equally far from each other. A regressor extrapolates. With z(S) the inputs, centered over the records and scaled
so that every group of inputs has the same total variance, 1,

    mAP^(S) = b + w.z(S),   w, b = argmin sum_l r_l (mAP_l - b - w.z(S_l))^2 + alpha |w|^2

``ridge`` sees all groups at once; ``ensemble`` is the mean of G of them that see one group each. alpha, from a fixed
grid, has the least leave-one-out error, which is known in closed form. r_l is the weight of a record, 1 for this
cycle's. Solved in the dual form: M x M, whatever F is.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from al_lab.strategies.detection._mgral.predictor.inputs import SetInputs, SetValue, described
from al_lab.strategies.detection._mgral.predictor.leave_one_out import LeaveOneOut, distinct, judged

Kind = Literal["ridge", "ensemble"]

_ALPHAS = np.logspace(
    -2, 6, 17
)  # of |w|^2 when a group of z has variance 1; the largest one is the mean of all records
FEWEST = 3  # records: two leave nothing to judge a slope by


class Fit(NamedTuple):
    """One ridge regression: b + w.z of inputs as they come, and its alpha."""

    constant: float
    weight_F: np.ndarray
    alpha: float


def fit(x_MF: np.ndarray, rewards_M: np.ndarray, weight_M: np.ndarray, groups_F: np.ndarray) -> Fit:
    """Solve the regression of the module's text.

    Args:
        x_MF: inputs of the records.
        rewards_M: points.
        weight_M: r_l > 0.
        groups_F: name of each input's group.
    """
    share_M = weight_M / weight_M.sum()
    center_F, mean = share_M @ x_MF, float(share_M @ rewards_M)
    deviation_F = x_MF.std(0)
    _, group_F, size_G = np.unique(groups_F, return_inverse=True, return_counts=True)
    scale_F = np.where(deviation_F > 1e-9, deviation_F, np.inf) * np.sqrt(size_G[group_F])  # noqa: PLR2004 - constant
    root_M = np.sqrt(weight_M)
    z_MF, y_M = root_M[:, None] * (x_MF - center_F) / scale_F, root_M * (rewards_M - mean)
    values, vectors = np.linalg.eigh(z_MF @ z_MF.T)
    values = values.clip(min=0)
    inner_M = vectors.T @ y_M

    def errors(alpha: float) -> float:
        # The hat matrix of "center, then ridge": leaving l out divides its residual by 1 - H_ll.
        shrink = values / (values + alpha)
        leverage_M = share_M + (vectors**2 * shrink).sum(1)
        return float((((vectors @ (shrink * inner_M) - y_M) / (1 - leverage_M).clip(min=1e-9)) ** 2).sum())

    alpha = float(min(_ALPHAS, key=errors))
    weight_F = z_MF.T @ (vectors @ (inner_M / (values + alpha))) / scale_F
    return Fit(mean - float(weight_F @ center_F), weight_F, alpha)


class Regressor:
    """See the module's text; `append` refits.

    Args:
        inputs: of all images.
        bases: of each record, positions of what was labeled before.
        batches: of each record, positions of the batch.
        rewards_M: in the metric's points.
        weight_M: of the records; None: all 1.
        base: positions of what is labeled now; a batch is judged together with it.
        kind: ``ridge`` | ``ensemble``.

    Raises:
        ValueError: with fewer than 3 records.
    """

    def __init__(
        self,
        inputs: SetInputs,
        bases: Sequence[np.ndarray],
        batches: Sequence[np.ndarray],
        rewards_M: np.ndarray,
        base: np.ndarray,
        kind: Kind = "ridge",
        weight_M: np.ndarray | None = None,
    ) -> None:
        if len(rewards_M) < FEWEST:
            raise ValueError(f"Regressor: expected at least 3 records, got {len(rewards_M)}; build a larger table")
        self.inputs, self.kind, self.name = inputs, kind, kind
        self.sets = [np.concatenate([a, b]) for a, b in zip(bases, batches, strict=True)]
        self.rewards_M = np.array(rewards_M, np.float64)
        self.weight_M = np.ones(len(self.rewards_M)) if weight_M is None else np.array(weight_M, np.float64)
        self.base = np.asarray(base, np.int64)
        self._labeled = inputs.content(self.base)
        self._x_MF = described(inputs, bases, batches)
        self._refit()

    def __call__(self, batch: np.ndarray) -> float:
        """Return the reward expected of a batch (B,) of positions."""
        x_F = self.inputs.describe(self._labeled, self.inputs.content(batch))
        return self._constant + float(self._weight_F @ x_F)

    def append(self, batch: np.ndarray, reward: float) -> None:
        """Add a batch that was trained."""
        self.sets.append(np.concatenate([self.base, batch]))
        self.rewards_M = np.append(self.rewards_M, reward)
        self.weight_M = np.append(self.weight_M, 1.0)
        self._x_MF = np.concatenate([self._x_MF, described(self.inputs, [self.base], [batch])])
        self._refit()

    def value(self) -> SetValue:
        """Return what it expects of a whole set (the labeled images and a batch), taken apart by images."""
        return SetValue.of(self.inputs, self._constant, self._weight_F)

    def leave_one_out(self) -> LeaveOneOut:
        """Predict every record by a regressor that never saw it; alpha is chosen without it, too."""
        same_M = distinct(self.sets)
        estimates = np.empty(len(same_M))
        for k in range(len(same_M)):
            others = np.flatnonzero(same_M != same_M[k])
            constant, weight_F, _ = self._fit(others)
            estimates[k] = constant + self._x_MF[k] @ weight_F
        return judged(estimates, self.rewards_M, same_M, self.weight_M)

    def _refit(self) -> None:
        self._constant, self._weight_F, self.alpha = self._fit(np.arange(len(self.rewards_M)))

    def _fit(self, rows: np.ndarray) -> Fit:
        groups_F = self.inputs.groups_F
        x, y, r = self._x_MF[rows], self.rewards_M[rows], self.weight_M[rows]
        if self.kind == "ridge":
            return fit(x, y, r, groups_F)
        constant, weight_F, alphas = 0.0, np.zeros(len(groups_F)), []
        names = list(dict.fromkeys(groups_F.tolist()))
        for name in names:
            mine = groups_F == name
            part = fit(x[:, mine], y, r, groups_F[mine])
            constant += part.constant / len(names)
            weight_F[mine] = part.weight_F / len(names)
            alphas.append(part.alpha)
        return Fit(constant, weight_F, float(np.exp(np.mean(np.log(alphas)))))
