import numpy as np
import pytest

from al_lab.reporting.figures.pool import principal_axes


def test_principal_axes_find_the_direction_of_most_variance():
    t = np.linspace(-1, 1, 50)
    flat = principal_axes(np.stack([3 * t, 0.1 * t**2, 4 * t], 1))
    assert np.abs(flat[:, 0]).max() == pytest.approx(5.0, rel=1e-3)
    assert np.ptp(flat[:, 1]) < 0.2
    assert principal_axes(np.arange(5.0)[:, None]).shape == (5, 2)
