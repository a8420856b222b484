import numpy as np

from al_lab.metrics.resampling import resamples


def test_all_models_of_a_test_set_meet_the_same_resamples():
    weights = resamples(30, 500)
    assert (weights == resamples(30, 500)).all()
    assert (weights.sum(1) == 30).all()
    assert np.abs(weights.mean(0) - 1).max() < 0.2
