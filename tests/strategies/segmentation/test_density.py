"""Density Matters' selection against Algorithm 1 as written, on maps upsampled as a whole."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional

from al_lab.core.budget import Budget
from al_lab.core.errors import ConfigError
from al_lab.core.types import DenseView
from al_lab.strategies.general import _filtered
from al_lab.strategies.general.core_set import CoreSet
from al_lab.strategies.general.random import Random
from al_lab.strategies.segmentation.density import Density

SIZE_HW, COARSE = (18, 26), (5, 7)
TAU, BETA = 0.25, np.exp(2.4)


@pytest.fixture
def view() -> DenseView:
    g = torch.Generator().manual_seed(0)
    probs = torch.randn(4, *SIZE_HW, generator=g).mul(2).softmax(0)
    return DenseView(
        "d", SIZE_HW, probs, torch.randn(6, *COARSE, generator=g), {"error": torch.rand(COARSE, generator=g)}
    )


def maps(view: DenseView, is_weighted: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """I (N,), f (N, D) and d (N,) of every pixel."""
    top = view.probs.double().topk(2, 0).values
    f = (
        functional.interpolate(view.features[None].double(), SIZE_HW, mode="bilinear", align_corners=True)[0]
        .reshape(6, -1)
        .T
    )
    e = view.extras["error"].double()
    d = BETA * torch.exp(-(e - e.min()) / (e.max() - e.min()) / TAU)  # Eq. above (8)
    d = functional.interpolate(d[None, None], SIZE_HW, mode="bilinear", align_corners=True).reshape(-1)
    return (
        (1 - top[0] + top[1]).reshape(-1).numpy(),
        (f / f.norm(dim=1, keepdim=True)).numpy(),
        d.numpy() if is_weighted else np.ones(len(d)),
    )


def algorithm_1(
    view: DenseView, budget: int, alpha: float, is_weighted: bool = True, first: int | None = None
) -> list[int]:
    informative, f, d = maps(view, is_weighted)
    bought = np.flatnonzero(view.bought) if view.bought is not None else np.zeros(0, int)
    order = [t for t in np.argsort(-informative, kind="stable") if t not in set(bought)]
    candidates, s = order[: int(np.ceil(alpha * budget))], list(bought)
    picks = []
    for _ in range(budget):
        r = {
            t: min((((f[t] - f[k]) ** 2).sum() / d[k] for k in s), default=np.inf) for t in candidates if t not in picks
        }
        u = max(r, key=r.get) if s else candidates[0] if first is None else first
        picks.append(int(u))
        s.append(u)
    return picks


@pytest.mark.parametrize("is_weighted", [True, False])
def test_algorithm_1(view: DenseView, context, is_weighted: bool) -> None:
    strategy = Density(alpha=4, weighted=is_weighted)
    picked = strategy.propose(view, context(12))
    assert picked.center.tolist() == algorithm_1(view, 12, 4, is_weighted)
    assert (np.diff(picked.utility) <= 0).all() and np.isfinite(picked.utility).all()
    mask = np.zeros(SIZE_HW, bool)
    mask.reshape(-1)[picked.center] = True
    # today's features, also of what was bought
    again = dataclasses.replace(view, bought=mask, features=view.features.flip(-1))
    assert strategy.propose(again, context(9)).center.tolist() == algorithm_1(again, 9, 4, is_weighted)
    assert not set(strategy.propose(again, context(9)).center) & set(picked.center)


def test_constant_density_is_k_center_and_beta_changes_nothing(view: DenseView, context) -> None:
    even = dataclasses.replace(view, extras={"error": torch.full(COARSE, 0.3)})
    alike = [
        strategy.propose(shown, context(15)).center.tolist()
        for strategy, shown in ((Density(), even), (Density(weighted=False), view), (CoreSet(filter="margin"), view))
    ]
    assert alike[0] == alike[1] == alike[2] != Density().propose(view, context(15)).center.tolist()
    assert (
        Density(beta=1.0).propose(view, context(15)).center.tolist()
        == Density().propose(view, context(15)).center.tolist()
    )


def test_t2_the_filter_keeps_the_smallest_gaps(context) -> None:
    """Pixels a to e of the fact sheet: I = .7 .9 1 .04 1; alpha b = 2 keeps c and e, and c is first."""
    rows = torch.tensor(
        [[0.6, 0.3, 0.08, 0.02], [0.1, 0.2, 0.3, 0.4], [0.25] * 4, [0.97, 0.01, 0.01, 0.01], [0.5, 0.5, 0, 0]]
    )
    view = DenseView("t2", (1, 5), rows.T[:, None], torch.randn(3, 1, 5), {"error": torch.rand(1, 5)})
    assert Density(alpha=1, ties="id").propose(view, context(2)).center.tolist() == [2, 4]
    assert Density(alpha=2, ties="id").propose(view, context(1)).center.tolist() == [2]
    assert Density(ties="id").propose(view, context(9)).center[0] == 2 and len(Density().propose(view, context(9))) == 5
    assert Density(filter="least_confidence", alpha=1, ties="id").propose(view, context(3)).center[0] == 2
    assert set(Density(filter="least_confidence", alpha=1).propose(view, context(2)).center) == {1, 2}
    assert set(Density(filter="entropy", alpha=1).propose(view, context(3)).center) == {0, 1, 2}


@pytest.fixture
def num_candidates(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seen: list[int] = []

    def spy(features: np.ndarray, *args: object, **kwargs: object) -> object:
        seen.append(len(features))
        return greedy(features, *args, **kwargs)

    greedy = _filtered.density_greedy
    monkeypatch.setattr(_filtered, "density_greedy", spy)
    return seen


def test_alpha_follows_the_budget_of_all_cycles(view: DenseView, context: Callable, num_candidates: list[int]) -> None:
    for share in (0.0001, 0.022, 0.05):
        Density().propose(view, context(5, share=share))
    Density(alpha=3.5).propose(view, context(5))
    Density(filter="none").propose(view, context(5))
    assert num_candidates == [100, 100, 50, 18, 18 * 26]


def test_alpha_of_another_budget_is_said(caplog: pytest.LogCaptureFixture) -> None:
    for share, alpha in ((0.0044, 20), (0.01, 10), (0.01, None), (0.01, 7)):
        Density(alpha=alpha).check_budget(Budget("pixel", per_cycle=share, cycles=5, scope="image"))
    assert not caplog.records
    Density(alpha=20).check_budget(Budget("pixel", per_cycle=0.01, cycles=5, scope="image"))
    assert "strategy.alpha=20 is the paper's for another budget than 5 %" in caplog.text


def test_the_first_pick(view: DenseView, context) -> None:
    informative, _, d = maps(view)
    candidates = np.argsort(-informative, kind="stable")[:60]
    assert Density().propose(view, context(3)).center[0] == candidates[0]
    assert Density(seed_rule="dense").propose(view, context(3)).center[0] == candidates[d[candidates].argmax()]
    drawn = {int(Density(seed_rule="random").propose(view, context(3, seed=s)).center[0]) for s in range(6)}
    assert len(drawn) > 1 and drawn <= set(candidates)
    somewhere = np.zeros(SIZE_HW, bool)
    somewhere[3, 4] = True
    begun = dataclasses.replace(view, bought=somewhere)
    assert Density(seed_rule="random").propose(begun, context(3)).center.tolist() == algorithm_1(begun, 3, 20)


def test_first_cycles_may_be_random(view: DenseView, context) -> None:
    blind = dataclasses.replace(view, probs=None, features=None, extras={})  # nobody has to look
    strategy = Density(random_cycles=1)
    ctx = context(9, sample_id=view.sample_id)
    drawn = strategy.propose(dataclasses.replace(blind, features=view.features), ctx)
    assert drawn.center.tolist() == Random().propose(blind, ctx).center.tolist()
    later = strategy.propose(view, dataclasses.replace(ctx, cycle=1))
    assert later.center.tolist() == Density().propose(view, ctx).center.tolist() != drawn.center.tolist()
    with pytest.raises(ConfigError, match="random_cycles"):
        Density(random_cycles=-1)


def test_errors_are_scaled_as_asked(view: DenseView, context) -> None:
    outlier = torch.rand(20, 30, generator=torch.Generator().manual_seed(1))
    outlier[0, 0] = 1e4
    shown = dataclasses.replace(view, extras={"error": outlier})
    flat, robust = (Density(scale=s).propose(shown, context(20)).center.tolist() for s in ("minmax", "robust"))
    # one outlier, and all densities are alike
    assert robust != flat == Density(weighted=False).propose(view, context(20)).center.tolist()
    raw = Density(scale="none", tau=0.1).propose(view, context(20)).center.tolist()
    assert raw != Density(tau=0.1).propose(view, context(20)).center.tolist()


def test_relative_errors_are_of_features_of_length_1(view: DenseView, context) -> None:
    length = torch.rand(COARSE, generator=torch.Generator().manual_seed(2)).mul(9).add(1)
    long = dataclasses.replace(
        view, features=view.features * length, extras={"error": view.extras["error"] * length**2}
    )
    relative, robust = Density(scale="relative"), Density(scale="robust")
    short = dataclasses.replace(view, extras={"error": view.extras["error"] / view.features.square().sum(0)})
    torch.testing.assert_close(relative._density(long), robust._density(short), rtol=1e-4, atol=1e-4)
    assert relative.propose(view, context(20)).center.tolist() != robust.propose(view, context(20)).center.tolist()


def test_what_is_measured_of_a_choice_is_its_own(view: DenseView, context) -> None:
    """The bounds after a purchase, with what was bought before, on all pixels of a small image."""
    somewhere = np.zeros(SIZE_HW, bool)
    somewhere[3, 4:6] = True
    begun, f = dataclasses.replace(view, bought=somewhere), maps(view)[1]
    found = Density().judge(begun, context(7))
    for who, strategy in (("", Density()), ("_k_center", Density(weighted=False))):
        centers = np.concatenate([strategy.propose(begun, context(7)).center, np.flatnonzero(somewhere)])
        nearest = ((f[:, None] - f[centers]) ** 2).sum(2)
        owner, distance = nearest.argmin(1), np.sqrt(nearest.min(1))
        radial = max(distance[owner == k].mean() for k in range(len(centers)))
        assert (found[f"radial{who}"], found[f"mean_distance{who}"]) == pytest.approx((radial, distance.mean()))
    d = Density()._density(view).numpy()
    assert found["density_ratio"] == pytest.approx(np.quantile(d, 0.9) / np.quantile(d, 0.1))
    assert set(found) == set(Density.judges) and found["radial"] != found["radial_k_center"]
    assert not Density(weighted=False).judge(view, context(7)) and not Density(random_cycles=1).judge(view, context(7))


def test_nobody_estimates_densities_that_are_not_used() -> None:
    assert Density().needs_for("pixel") == ("dense_probs", "pixel_features", "pixel_error")
    assert Density(weighted=False).needs_for("pixel") == ("dense_probs", "pixel_features")


def test_broken_maps_are_named(view: DenseView, context) -> None:
    for change, words in (
        ({"probs": view.probs * torch.nan}, "probabilities"),
        ({"features": view.features * torch.nan}, "features"),
        ({"extras": {"error": view.extras["error"] * torch.inf}}, "reconstruction errors"),
        (
            {"extras": {"error": view.extras["error"].clone().index_fill_(0, torch.tensor(0), torch.nan)}},
            "reconstruction errors",
        ),
    ):
        with pytest.raises(ValueError, match=f"finite {words}, got others in sample 'd'; the segmenter diverged"):
            Density().propose(dataclasses.replace(view, **change), context(3))
    with pytest.raises(TypeError, match="pixel_error"):
        Density().propose(dataclasses.replace(view, extras={}), context(3))
    with pytest.raises(TypeError, match="pixel_features"):
        Density().propose(dataclasses.replace(view, features=None), context(3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filter": "margins"}, "did you mean 'margin'"),
        ({"alpha": 0.5}, "strategy.alpha: expected a number >= 1"),
        ({"tau": 0}, "strategy.tau"),
        ({"beta": -1}, "strategy.beta"),
        ({"scale": "minmax_image"}, "did you mean 'minmax'"),
        ({"seed_rule": "first"}, "strategy.seed_rule"),
        ({"seed_rule": "dense", "weighted": False}, "without densities"),
        ({"ties": "first"}, r"hash \| id"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Density(**arguments)
