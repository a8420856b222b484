"""What every strategy promises, checked for every yaml in conf/strategy: a new one gets these tests without writing
any."""

import copy
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml

from al_lab.campaign.loop import run_campaign
from al_lab.config.build import build
from al_lab.core.budget import Allowance
from al_lab.core.errors import ConfigError
from al_lab.core.pool import Apart, Pool
from al_lab.core.rng import rng_for
from al_lab.core.strategy import ProposeContext, Strategy
from al_lab.core.types import Candidates, DenseView, ImageView, Query
from al_lab.strategies.rivals._two_pass import FILE, Rows, TwoPass
from al_lab.strategies.segmentation._source import LooksAtSource
from tests.stubs import FakeSegmenter, StubDense, StubLearner, quicken, stub_blank, stub_config

FOLDER = Path(__file__).parents[2] / "conf" / "strategy"
YAMLS = sorted(p.stem for p in FOLDER.glob("*.yaml"))
IDS = tuple(f"img/{k:03d}" for k in range(24))
DENSE = ("pixel", "region", "segment")
FRAME = "frame"  # whole images, of which a segmenter says something


def node(name: str, tmp_path: Path) -> dict:
    """The yaml as a user would use it; what it leaves open (???) is given here."""
    config = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    for default in config.pop("defaults", []):  # what Hydra would put there, such as mgral's objectives of rows
        ((key, option),) = default.items()
        group, _, place = key.lstrip("/").partition("@")
        inner = config
        for part in place.split("."):
            inner = inner.setdefault(part, {})
        leaf = yaml.safe_load((FOLDER.parent / group / f"{option}.yaml").read_text())
        inner |= leaf | inner
    if "learning" in config:
        config["learning"]["iterations"] = 20  # an agent's training is tested where it lives
    if name == "replay":
        purchases = [
            {"cycle": -1, "queries": [{"id": i, "utility": 0.0} for i in IDS[:6]]},
            *(
                {"cycle": c, "queries": [{"id": i, "utility": 0.0} for i in IDS[6 + 5 * c : 11 + 5 * c]]}
                for c in range(2)
            ),
        ]
        (tmp_path / "selections.json").write_text(json.dumps({"purchases": purchases}))
        config["path"] = str(tmp_path / "selections.json")
    return config


def kinds(name: str) -> list[str]:
    cls = type(build(node(name, Path("/nonexistent")))) if name != "replay" else None
    if cls is None:
        return ["image"]
    images = [kind for kind, task in (("image", "detection"), (FRAME, "segmentation")) if task in cls.tasks]
    # strategies of segments pay for them by the pixel, too, which their own tests look at
    dense = ("segment",) if "segments" in cls.data_needs else DENSE
    return (images if "image" in cls.units else []) + [unit for unit in dense if unit in cls.units]


def all_cases() -> list[tuple[str, str]]:
    return [(name, kind) for name in YAMLS for kind in kinds(name)]


@pytest.fixture(params=all_cases(), ids="-".join)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[dict, str]:
    name, kind = request.param
    config = node(name, tmp_path)
    if name == "mgral":  # how many rows there are is no part of the contract
        config["lut"] |= {"rows": 4, "repeats": 2, "seeds": 2} | ({"objective": "negative"} if kind == FRAME else {})
    return config, kind


def views(kind: str, ids: Sequence[str], state: str = "trained") -> list[ImageView | DenseView]:
    learner = FakeSegmenter(3) if kind in (FRAME, *DENSE) else StubLearner(3)
    learner.state = state
    found = list(learner.views(ids, learner.provides))
    if kind != "segment":
        return found
    world = StubDense()
    return [
        dataclasses.replace(v, segments=world.segment_map(v.sample_id), image=world.load_image(v.sample_id))
        for v in found
    ]


def propose(
    strategy: Strategy, kind: str, shown: Sequence[ImageView | DenseView], seed: int = 0, labeled: Sequence[str] = ()
) -> Candidates:
    quota, unit = (30, kind) if kind in DENSE else (None, "image")
    return Candidates.concat(
        [
            strategy.propose(
                v, ProposeContext(quota, unit, rng_for(seed, 0, "score").child(v.sample_id), v.sample_id in labeled)
            )
            for v in shown
        ]
    )


def choose(
    config: dict,
    kind: str,
    *,
    order: Sequence[str] = IDS,
    seed: int = 0,
    amount: int | None = None,
    shown: Sequence[ImageView | DenseView] | None = None,
    apart: Apart | None = None,
    folder: Path,
) -> list[tuple[str, tuple[int, ...]]]:
    strategy: Strategy = build(config)
    pool = Pool(tuple(order), apart=apart)
    pool = pool if kind in DENSE else pool.acquire([Query(i) for i in IDS[:6]], -1)
    ids = pool.ids if strategy.scores_labeled or kind in DENSE else pool.unlabeled()
    shown = views(kind, ids) if shown is None else shown
    candidates = propose(strategy, kind, shown, seed, pool.labeled())
    cycle_dir = folder / "cycle_00"
    cycle_dir.mkdir(exist_ok=True)
    if isinstance(strategy, LooksAtSource):  # what its own stage would have written
        data = StubDense()
        seen = [strategy.of_source(v, data.source_label(v.sample_id)) for v in views(kind, data.source_ids)]
        rows = {name: np.concatenate([part[name] for part in seen]) for name in seen[0]}
        np.savez(cycle_dir / "source.npz", **strategy.summary(rows, rng_for(0, 0, "source")))
    amount = amount or {"pixel": 20, "region": 3, "segment": 40}.get(kind, 5)
    unit, per_image = kind if kind in DENSE else "image", kind in ("pixel", "region")
    allowance = Allowance(unit, amount, per_image=per_image)  # type: ignore[arg-type]
    if isinstance(strategy, TwoPass):
        listed = strategy.shortlist(candidates, pool, allowance, rng_for(seed, 0, "shortlist_features"))
        Rows.of_images({v.sample_id: strategy.rows_of(v) for v in shown if v.sample_id in listed}).save(
            cycle_dir / FILE
        )
    strategy.restore(cycle_dir)
    candidates = candidates.with_maps(StubDense().segment_map)
    queries = strategy.select(candidates, pool, allowance, rng_for(seed, 0, "select"))
    allowance.check(queries, "contract")
    if apart is not None:
        apart.check(queries, "contract")
    pool.acquire(queries, 0)  # refuses strangers, repetitions and what is labeled
    return [(q.sample_id, tuple(q.region.pixels.tolist()) if q.region else ()) for q in queries]


def test_stays_within_the_budget_and_spends_it(case, tmp_path):
    config, kind = case
    chosen = choose(config, kind, folder=tmp_path)
    if kind == "segment":
        maps = {i: StubDense().segment_map(i).reshape(-1) for i, _ in chosen}
        assert sum(len(np.unique(maps[i][list(pixels)])) for i, pixels in chosen) == 40
        assert all(np.isin(maps[i], maps[i][list(pixels)]).sum() == len(pixels) for i, pixels in chosen)  # whole ones
        return
    assert len(chosen) == (len(IDS) if kind in DENSE else 5)
    window = (2 * build(config).radius_px + 1) ** 2
    for _, pixels in chosen if kind in DENSE else []:
        if kind == "region":  # in a corner 4 of 9 pixels are left
            assert 3 * window * 4 / 9 <= len(pixels) <= 3 * window
        else:  # whole windows, if that is what is bought, each of at most 9 pixels
            assert len(pixels) == 20 or (config["_target_"].endswith("Ripu") and 20 - window < len(pixels) <= 20)


def test_images_of_a_group_stay_apart(case, tmp_path):
    config, kind = case
    apart = Apart({i: i[:6] for i in IDS}, {i: int(i[-3:]) for i in IDS}, min_gap=4)
    if config["_target_"].endswith("Replay"):
        with pytest.raises(ConfigError, match="numbers 4 apart in a group, got 'img/006' and 'img/00[789]'"):
            choose(config, kind, apart=apart, folder=tmp_path)
        return
    amount = 10**4 if kind == "segment" else 100
    free = choose(config, kind, amount=amount, folder=tmp_path)
    chosen = choose(config, kind, amount=amount, apart=apart, folder=tmp_path)
    most = apart.most(IDS if kind in DENSE else IDS[6:])
    assert most / 2 <= len(chosen) <= most < len(free)
    assert chosen[0] == free[0]
    if kind not in DENSE:
        assert len(choose(config, kind, amount=3, apart=apart, folder=tmp_path)) == 3


def test_a_fresh_object_selects_the_same(case, tmp_path):
    config, kind = case
    assert choose(config, kind, folder=tmp_path) == choose(copy.deepcopy(config), kind, folder=tmp_path)


def test_the_order_of_the_pool_decides_nothing(case, tmp_path):
    config, kind = case
    shuffled = [IDS[k] for k in np.random.default_rng(0).permutation(len(IDS))]
    assert sorted(choose(config, kind, folder=tmp_path)) == sorted(
        choose(config, kind, order=shuffled, folder=tmp_path)
    )


def test_propose_changes_nothing_it_is_shown(case):
    config, kind = case
    strategy = build(config)
    shown, untouched = views(kind, IDS), views(kind, IDS)
    propose(strategy, kind, shown)
    for a, b in zip(shown, untouched, strict=True):
        if kind in (FRAME, *DENSE):
            assert np.array_equal(a.embedding, b.embedding)
            assert all(
                bool((x == y).all())
                for x, y in ((a.probs, b.probs), (a.features, b.features), (a.extras["error"], b.extras["error"]))
            )
        else:
            assert np.array_equal(a.detections.probs, b.detections.probs) and np.array_equal(a.embedding, b.embedding)


def test_images_without_detections_are_candidates_like_others(case, tmp_path):
    config, kind = case
    if kind in (FRAME, *DENSE):
        pytest.skip("dense predictions exist for every pixel")
    strategy = build(config)
    ids = IDS if strategy.scores_labeled else IDS[6:]
    blank = [stub_blank(i) for i in ids]
    assert len(choose(config, kind, shown=blank, folder=tmp_path)) == 5


def test_ties_are_not_always_the_first(case, tmp_path):
    config, kind = case
    if config["_target_"].endswith("Replay"):
        pytest.skip("a published list has no ties")
    strategy = build(config)
    if kind in DENSE:
        first = views(kind, IDS[:1])[0]
        flat = [dataclasses.replace(first, sample_id=i, probs=first.probs * 0 + 1 / 3) for i in IDS]
        if kind == "segment":
            flat = [dataclasses.replace(v, segments=StubDense().segment_map(v.sample_id)) for v in flat]
            by_seed = [choose(config, kind, shown=flat, seed=s, folder=tmp_path) for s in range(3)]
            assert len({tuple(c) for c in by_seed}) > 1
            return
        chosen = choose(config, kind, shown=flat, folder=tmp_path)
        assert len({pixels for _, pixels in chosen}) == len(IDS)
        return
    ids = IDS if strategy.scores_labeled else IDS[6:]
    blank: list[ImageView | DenseView] = [stub_blank(i) for i in ids]
    if kind == FRAME:
        first = views(kind, IDS[:1])[0]
        blank = [dataclasses.replace(first, sample_id=i) for i in ids]
    by_seed = [choose(config, kind, shown=blank, seed=s, folder=tmp_path) for s in range(3)]
    assert len({tuple(c) for c in by_seed}) > 1


def test_a_budget_larger_than_the_pool_buys_the_pool(case, tmp_path):
    config, kind = case
    if config["_target_"].endswith("Replay"):
        pytest.skip("a published list is as long as it is")
    if kind in DENSE:
        chosen = choose(config, kind, amount=10**6, folder=tmp_path)
        assert len(chosen) == len(IDS)
    else:
        assert sorted(i for i, _ in choose(config, kind, amount=100, folder=tmp_path)) == sorted(IDS[6:])


def test_a_whole_campaign(case, tmp_path, monkeypatch):
    config, kind = case
    quicken(monkeypatch)
    is_dense, unit = kind in (FRAME, *DENSE), kind if kind in DENSE else "image"
    result = run_campaign(stub_config(config, dense=is_dense, unit=unit), tmp_path / "run")
    assert result["status"] == "finished"
    assert {"voc07_ap50", "miou"} & set(result)
    assert (tmp_path / "run" / "selections.json").is_file()
