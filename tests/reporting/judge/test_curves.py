import numpy as np
import pytest

from al_lab.reporting.judge.curves import (
    Curve,
    area_under_curve,
    band,
    labels_to_reach,
    paired_areas,
    paired_last,
    shared_areas,
)


def curve(*points):
    return Curve.make(*zip(*points, strict=True))


def test_area_is_the_mean_height():
    assert area_under_curve(curve((10, 0.2), (20, 0.4), (40, 0.6))) == pytest.approx((10 * 0.3 + 20 * 0.5) / 30)


def test_area_within_a_range_interpolates_its_ends():
    assert area_under_curve(curve((0, 0.0), (10, 1.0)), 2, 4) == pytest.approx(0.3)


def test_area_of_one_point_is_its_height_and_of_none_is_refused():
    assert area_under_curve(curve((10, 0.25))) == 0.25
    with pytest.raises(ValueError, match="at least one point"):
        area_under_curve(Curve.make([], []))


def test_curve_drops_what_is_not_finite_and_sorts():
    made = Curve.make([30, 10, 20, float("nan")], [0.3, 0.1, float("nan"), 0.9])
    assert made.spent.tolist() == [10, 30]
    assert made.metric.tolist() == [0.1, 0.3]


def test_band_is_the_mean_with_its_standard_error():
    made = band([curve((10, 0.1), (20, 0.2)), curve((10, 0.3), (20, 0.2)), curve((10, 0.2), (20, 0.2))])
    assert made.mean.tolist() == pytest.approx([0.2, 0.2])
    assert made.standard_error.tolist() == pytest.approx([0.1 / np.sqrt(3), 0.0])


def test_band_covers_the_range_all_seeds_cover():
    assert band([curve((10, 0.1), (20, 0.2), (30, 0.3)), curve((12, 0.1), (24, 0.2))]).spent.tolist() == [12, 20, 24]
    assert len(band([curve((10, 0.1)), curve((20, 0.2))]).spent) == 0


def test_one_seed_has_no_error():
    assert np.isnan(band([curve((10, 0.1), (20, 0.2))]).standard_error).all()


@pytest.mark.parametrize(("level", "labels"), [(0.1, 10.0), (0.3, 15.0), (0.5, 20.0), (0.45, 18.75), (0.7, None)])
def test_labels_to_reach(level, labels):
    assert labels_to_reach(np.asarray([10.0, 20.0, 30.0]), np.asarray([0.1, 0.5, 0.4]), level) == (
        None if labels is None else pytest.approx(labels)
    )


def runs(*heights):
    return {seed: curve((10, h), (20, h)) for seed, h in enumerate(heights)}


def test_last_points_are_compared_whatever_they_cost():
    found = paired_last(
        {0: curve((0, 0.9), (10, 0.5)), 1: curve((10, 0.6)), 2: curve((5, 1.0))},
        {0: curve((0, 0.1), (999, 0.4)), 1: curve((7, 0.4))},
    )
    assert found == {0: pytest.approx(0.1), 1: pytest.approx(0.2)}


def test_pairs_are_by_seed():
    found = paired_areas({0: curve((10, 0.5), (20, 0.5)), 7: curve((10, 0.9), (20, 0.9))}, runs(0.4, 0.4))
    assert found == {0: pytest.approx(0.1)}
    assert paired_areas({5: curve((10, 0.5))}, runs(0.4)) == {}


def test_pairs_use_the_range_both_runs_cover():
    short = {s: curve((10, 0.2), (20, 0.4)) for s in range(2)}
    long = {s: curve((10, 0.2), (20, 0.4), (90, 1.0)) for s in range(2)}
    assert paired_areas(short, long) == {0: pytest.approx(0.0), 1: pytest.approx(0.0)}


def test_areas_are_ranked_over_the_range_all_curves_cover():
    long, short, begun = curve((0, 0.2), (10, 0.4), (20, 0.8)), curve((0, 0.2), (10, 0.5)), curve((0, 0.9))
    assert shared_areas([{0: long}, {0: short}, {0: begun}]) == [[pytest.approx(0.3)], [pytest.approx(0.35)], []]
    assert shared_areas([{0: begun}, {}]) == [[0.9], []]
    assert shared_areas([{0: short}, {0: curve((30, 0.1), (40, 0.3))}]) == [[pytest.approx(0.35)], [pytest.approx(0.2)]]
