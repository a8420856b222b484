"""How much a metric depends on which test images there are: a bootstrap with the same resamples for every model.

So the values of two models subtract pairwise, and the spread of the differences says whether *these two models* differ
on images like these. It says nothing of the strategies behind them: another seed makes other models.
"""

import numpy as np

DRAWS = 200


def resamples(num_images: int, draws: int = DRAWS) -> np.ndarray:
    """Return (draws, N) how often each image is drawn; a function of its arguments alone."""
    return np.random.default_rng(num_images).multinomial(num_images, np.full(num_images, 1 / num_images), size=draws)
