"""ReDAL's discount."""

import numpy as np
import pytest

from al_lab.acquisition.segments.decay import decayed, decayed_as_released

S = np.array([0.6, 0.9, 0.88, 0.86, 0.5])
CLUSTERS = np.array([1, 0, 0, 0, 2])


@pytest.mark.parametrize(
    ("factor", "aligned", "order", "released", "released_order"),
    [
        (0.95, [0.6, 0.9, 0.836, 0.77615, 0.5], [1, 2, 3, 0, 4], [0.6, 0.855, 0.7942, 0.86, 0.5], [3, 1, 2, 0, 4]),
        (0.6, [0.6, 0.9, 0.528, 0.3096, 0.5], [1, 0, 2, 4, 3], [0.6, 0.54, 0.3168, 0.86, 0.5], [3, 0, 1, 4, 2]),
    ],
)
def test_each_further_region_of_a_cluster_counts_less(
    factor: float, aligned: list, order: list, released: list, released_order: list
) -> None:
    found = decayed(S, CLUSTERS, factor)
    assert found.tolist() == pytest.approx(aligned) and np.argsort(-found).tolist() == order
    theirs = decayed_as_released(S, CLUSTERS, factor)
    assert theirs.tolist() == pytest.approx(released) and np.argsort(-theirs).tolist() == released_order


def test_the_older_vector() -> None:
    found = decayed(np.array([0.9, 0.8, 0.7, 0.6]), np.array([0, 0, 1, 0]), 0.95)
    assert found.tolist() == pytest.approx([0.9, 0.76, 0.7, 0.5415])


def test_no_decay_changes_nothing() -> None:
    assert decayed(S, CLUSTERS, 1.0).tolist() == S.tolist()
