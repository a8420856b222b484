"""A learned predictor in place of the table (beyond MGRAL, which calls it future work).

Ridge regression from a batch to its reward.

Shapes: N images, D features, M records of B images each.

The table answers with an average of neighbors, so never with more than its best record, and all random batches are
nearly equally far from each other. A regressor extrapolates, and its M leave-one-out errors come for free.

    z(S)  = [mean_{i in S} x_i, std_{i in S} x_i]          (2D,), centered and scaled over the records
    mAP^  = mean(mAP) + w.z(S),   w = argmin sum_l (mAP_l - mAP^(~X_l))^2 + alpha |w|^2

with alpha, from a fixed grid, of least leave-one-out error. Solved in its dual form: M x M, whatever D is.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr

_ALPHAS = np.logspace(-2, 6, 17)  # of |w|^2 when z has unit variance; the largest one is the mean of all records


class Ridge:
    """See the module's text; `append` refits.

    Args:
        features_ND: of all images, standardized over the pool.
        batches_MB: positions of each record's images.
        rewards_M: in the metric's points.

    Attributes:
        alpha: the chosen one.
        residuals_M: leave-one-out errors at that alpha, prediction minus reward. Choosing alpha by them makes them a
            little too small.

    Raises:
        ValueError: with fewer than 3 records.
    """

    def __init__(self, features_ND: np.ndarray, batches_MB: Sequence[np.ndarray], rewards_M: np.ndarray) -> None:
        self.features_ND = features_ND
        self.batches = [np.asarray(batch, np.int64) for batch in batches_MB]
        self.rewards_M = np.array(rewards_M, np.float64)
        self._fit()

    def __call__(self, batch: np.ndarray) -> float:
        """Return the reward expected of a batch (B,) of positions."""
        return self._mean + float(self._weights @ ((self._describe(batch) - self._center) / self._scale))

    def append(self, batch: np.ndarray, reward: float) -> None:
        """Add a record."""
        self.batches.append(np.asarray(batch, np.int64))
        self.rewards_M = np.append(self.rewards_M, reward)
        self._fit()

    @property
    def rmse(self) -> float:
        """Leave-one-out root mean square error, in points."""
        return float(np.sqrt((self.residuals_M**2).mean()))

    @property
    def rank_correlation(self) -> float:
        """Spearman's, leave-one-out predictions against rewards; 0 if either is constant."""
        predicted = self.rewards_M + self.residuals_M
        if np.ptp(predicted) == 0 or np.ptp(self.rewards_M) == 0:
            return 0.0
        return float(spearmanr(predicted, self.rewards_M).statistic)

    def _describe(self, batch: np.ndarray) -> np.ndarray:
        x_BD = self.features_ND[batch].astype(np.float64)
        return np.concatenate([x_BD.mean(0), x_BD.std(0)])

    def _fit(self) -> None:
        num = len(self.rewards_M)
        if num < 3:  # noqa: PLR2004 - two records leave nothing to judge a slope by
            raise ValueError(f"Ridge: expected at least 3 records, got {num}; build a larger table")
        z = np.stack([self._describe(batch) for batch in self.batches])
        self._center, deviation = z.mean(0), z.std(0)
        self._scale = np.where(deviation > 0, deviation, 1.0) * np.sqrt(z.shape[1])
        z = (z - self._center) / self._scale
        self._mean = float(self.rewards_M.mean())
        y = self.rewards_M - self._mean
        values, vectors = np.linalg.eigh(z @ z.T)
        values = values.clip(min=0)
        best = None
        for alpha in _ALPHAS:
            # The hat matrix of "center, then ridge": 1/M + K (K + alpha)^-1; leaving l out divides its residual by 1 -
            # H_ll.
            shrink = values / (values + alpha)
            fitted = vectors @ (shrink * (vectors.T @ y))
            leverage = 1 / num + (vectors**2 * shrink).sum(1)
            residuals = (fitted - y) / (1 - leverage).clip(min=1e-9)
            error = float((residuals**2).mean())
            if best is None or error < best[0]:
                best = (error, float(alpha), residuals, z.T @ (vectors @ ((vectors.T @ y) / (values + alpha))))
        assert best is not None
        _, self.alpha, self.residuals_M, self._weights = best
