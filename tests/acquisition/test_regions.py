"""RIPU's maps and picks: the fact sheet's 5x5 example (T3) and the loop as everyone writes it."""

import numpy as np
import pytest
import torch

from al_lab.acquisition import regions

LABELS = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 1, 1, 1], [0, 2, 2, 1, 1], [2, 2, 2, 2, 1], [2, 2, 2, 2, 3]])
H_OVER_LOG = (
    torch.tensor(
        [[1, 1, 2, 1, 1], [1, 3, 4, 2, 1], [2, 5, 6, 3, 1], [1, 2, 3, 4, 5], [0, 1, 1, 4, 9]], dtype=torch.float64
    )
    / 10
)
LOG = np.log(19)
IMPURITY = np.array(
    [
        [0, 0.153020, 0.235408, 0.153020, 0],
        [0.153020, 0.288232, 0.360291, 0.232213, 0],
        [0.235408, 0.318188, 0.318188, 0.216174, 0.153020],
        [0.153020, 0.118471, 0.118471, 0.318188, 0.343495],
        [0, 0, 0, 0.294644, 0.353112],
    ]
)
UNCERTAINTY = np.array(
    [
        [0.15, 0.2, 0.216667, 0.183333, 0.125],
        [0.216667, 0.277778, 0.3, 0.233333, 0.15],
        [0.233333, 0.3, 0.355556, 0.322222, 0.266667],
        [0.183333, 0.233333, 0.322222, 0.4, 0.433333],
        [0.1, 0.133333, 0.25, 0.433333, 0.55],
    ]
)


def loop(utility, budget, suppress, closed, key):
    """The loop everyone writes: an argmax over all pixels for every pick."""
    utility = np.where(closed, -np.inf, utility)
    picked = []
    while len(picked) < budget and utility.max() > -np.inf:
        best = np.flatnonzero(utility == utility.max())
        at = int(best[key.reshape(-1)[best].argmin()])
        row, column = divmod(at, utility.shape[1])
        utility[
            max(row - suppress, 0) : row + suppress + 1, max(column - suppress, 0) : column + suppress + 1
        ] = -np.inf
        picked.append(at)
    return picked


def test_t3_maps():
    impurity = regions.region_impurity(LABELS, 19, 1)
    np.testing.assert_allclose(impurity / LOG, IMPURITY, atol=1e-6)
    np.testing.assert_allclose(
        [impurity[2, 2], impurity[1, 2], impurity[4, 4]], [0.936885, 1.060854, 1.039718], atol=1e-6
    )
    assert impurity[0, 0] / LOG == pytest.approx(-3.4e-7, abs=1e-8)
    assert regions.region_impurity(LABELS, 19, 1, eps=0)[0, 0] == 0
    np.testing.assert_allclose(regions.prediction_uncertainty(H_OVER_LOG, 1), UNCERTAINTY, atol=1e-6)


def test_eps_is_added_inside_the_logarithm():
    sure = torch.tensor([1.0, 0.0], dtype=torch.float64).reshape(2, 1, 1)
    assert float(regions.pixel_entropy(sure)) == pytest.approx(-np.log1p(1e-6), rel=1e-6)
    assert float(regions.pixel_entropy(sure, eps=0.01)) == pytest.approx(-np.log(1.01), rel=1e-9)
    assert float(regions.pixel_entropy(sure, eps=0)) == 0
    halves = torch.tensor([[0, 1]])
    assert regions.region_impurity(halves, 2, 1, eps=0.01)[0].tolist() == pytest.approx([-np.log(0.51)] * 2, rel=1e-9)


@pytest.mark.parametrize("compiled", [True, False])
def test_t3_region_picks(compiled):
    utility = (regions.region_impurity(LABELS, 19, 1) / LOG * regions.prediction_uncertainty(H_OVER_LOG, 1)).numpy()
    six = [utility[at] for at in ((4, 4), (3, 4), (4, 3), (3, 3), (2, 2), (1, 2))]
    np.testing.assert_allclose(six, [0.194212, 0.148848, 0.127679, 0.127275, 0.113134, 0.108087], atol=1e-6)
    picks = regions.pick_windows(utility, 2, 2, compiled=compiled)
    assert picks.center.tolist() == [24, 7]
    bought = regions.window_mask(picks.center, (5, 5), 1)
    expected = np.zeros((5, 5), bool)
    expected[3:, 3:] = expected[:3, 1:4] = True
    np.testing.assert_array_equal(bought, expected)
    closed = regions.window_mask(picks.center, (5, 5), 2)
    assert closed[:4].all() and closed[4].tolist() == [False, False, True, True, True]


def test_t3_pixel_picks():
    utility = (regions.region_impurity(LABELS, 19, 1) * H_OVER_LOG * 1.0).numpy()
    picks = regions.pick_windows(utility, 4, 1)
    assert picks.center.tolist() == [24, 12, 10, 2]
    np.testing.assert_allclose(picks.utility, [0.935746, 0.562131, 0.138629, 0.138629], atol=1e-6)


def test_utilities_of_probabilities():
    probs = torch.rand(5, 9, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    probs /= probs.sum(0)
    entropy = -(probs * (probs + 1e-6).log()).sum(0)
    region, pixel = regions.region_utility(probs, 2), regions.pixel_utility(probs, 3)
    for row, column in ((0, 0), (4, 3), (8, 6), (0, 5)):

        def window(k, row=row, column=column):
            return slice(max(row - k, 0), row + k + 1), slice(max(column - k, 0), column + k + 1)

        def impurity(k, window=window):
            labels = probs.argmax(0)[window(k)]
            q = torch.bincount(labels.reshape(-1), minlength=5) / labels.numel()
            return -(q.double() * (q.double() + 1e-6).log()).sum()

        torch.testing.assert_close(
            region[row, column], impurity(2) * entropy[window(2)].mean() / np.log(5) ** 2, rtol=1e-5, atol=1e-9
        )
        torch.testing.assert_close(pixel[row, column], impurity(3) * entropy[row, column], rtol=1e-5, atol=1e-9)
        mean = regions.pixel_utility(probs, 3, window_mean=True)[row, column]
        torch.testing.assert_close(mean, impurity(3) * entropy[window(3)].mean(), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("kind", ["smooth", "levels", "flat"])
def test_same_picks_as_the_loop(kind, compiled):
    rng = np.random.default_rng(5)
    noise = rng.random((90, 131))
    utility = {"smooth": noise.cumsum(0).cumsum(1) % 37, "levels": np.floor(noise * 4), "flat": np.zeros_like(noise)}[
        kind
    ]
    closed, key = rng.random(utility.shape) < 0.3, rng.permutation(utility.size).reshape(utility.shape)
    for budget, suppress in ((60, 2), (3000, 1), (40, 9), (10**5, 0)):
        picks = regions.pick_windows(utility, budget, suppress, closed, tie_key_HW=key, compiled=compiled)
        if budget < 1e5:
            assert picks.center.tolist() == loop(utility, budget, suppress, closed, key)
        else:
            assert sorted(picks.center) == np.flatnonzero(~closed).tolist()


def test_windows_of_all_cycles_never_overlap():
    rng = np.random.default_rng(1)
    closed, bought = np.zeros((40, 60), bool), np.zeros((40, 60), int)
    for _ in range(5):
        center = regions.pick_windows(rng.random((40, 60)), 8, 4, closed).center
        assert len(center) == 8
        closed |= regions.window_mask(center, (40, 60), 4)
        for c in center:
            bought += regions.window_mask([c], (40, 60), 2)
    assert bought.max() == 1


@pytest.mark.parametrize(("label", "suppress"), [(1, 2), (2, 4), (0, 3)])
def test_closed_by_bought_pixels_is_what_was_suppressed(label, suppress):
    center = np.random.default_rng(2).choice(20 * 31, 6, replace=False)
    bought = regions.window_mask(center, (20, 31), label)
    np.testing.assert_array_equal(
        regions.closed_by(bought, suppress - label), regions.window_mask(center, (20, 31), suppress)
    )


def test_what_cannot_be_picked():
    utility = np.array([[-np.inf, 1.0], [0.0, 2.0]])
    closed = np.array([[False, True], [False, False]])
    assert regions.pick_windows(utility, 9, 0, closed).center.tolist() == [3, 2]
    assert not closed[1].any()
    assert not len(regions.pick_windows(utility, 0, 0).center)
    for bad in ({"utility_HW": utility * np.nan}, {"closed_HW": closed[:1]}, {"suppress_px": -1}):
        with pytest.raises(ValueError, match="pick_windows: expected"):
            regions.pick_windows(**{"utility_HW": utility, "budget": 1, "suppress_px": 0} | bad)
    with pytest.raises(ValueError, match="0..2"):
        regions.region_impurity(torch.tensor([[3]]), 3, 1)


def test_budgets_t10():
    native = (1024, 2048)
    assert [regions.picks_per_image(native, share, 5, k) for share, k in ((0.022, 1), (0.05, 1), (0.022, 9))] == [
        1026,
        2331,
        26,
    ]
    assert [
        regions.picks_per_image(size, share, 5, 0) for size in (native, (640, 1280)) for share in (0.022, 0.05)
    ] == [9228, 20972, 3605, 8192]
    assert regions.pixels_per_image(40, (640, 1280), native, 5) == 21


def test_pixel_budget_counts_clipped_windows_as_they_are():
    center = np.array([0, 24, 12])  # two corners of 4 pixels, one whole window of 9
    assert [regions.within_pixels(center, (5, 5), 1, px) for px in (3, 4, 8, 16, 17)] == [0, 1, 2, 2, 3]


def test_over_images_takes_the_best_of_all():
    utilities = [np.array([0.9, 0.5, 0.5]), np.zeros(0), np.array([0.6, 0.5]), np.array([0.1])]
    assert regions.over_images(utilities, 3).tolist() == [2, 0, 1, 0]
    assert regions.over_images(utilities, 3, [9, 8, 1, 0]).tolist() == [1, 0, 2, 0]
    assert regions.over_images(utilities, 99).tolist() == [3, 0, 2, 1]
    with pytest.raises(ValueError, match="image number 1"):
        regions.over_images([np.zeros(1), np.array([0.1, 0.2])], 1)
    with pytest.raises(ValueError, match="image number 0"):
        regions.over_images([np.array([0.3, 0.1, 0.2])], 1)


def test_equal_pixels_are_picked_by_column_unless_a_key_says_otherwise():
    picks = regions.pick_windows(np.ones((3, 4)), 4, 0, np.zeros((3, 4), bool))
    assert picks.center.tolist() == [0, 4, 8, 1]


def test_a_window_of_radius_0_is_its_pixel():
    values = torch.tensor([[1.5, 2.5], [0.0, 4.0]])
    assert regions.window_sum(values, 0).tolist() == values.tolist()
    with pytest.raises(ValueError, match="radius_px >= 0, got -1"):
        regions.window_sum(values, -1)
