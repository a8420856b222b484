"""The bed of MGRAL's links: resumable, deterministic, by the product's own code; on made-up features."""

from collections.abc import Iterator

import numpy as np
import pytest

from al_lab.benchmarks.mgral_bed import run as bed_run
from al_lab.benchmarks.mgral_bed.head import Truth, expected_gains, fit, go_on, mean_ap
from al_lab.benchmarks.mgral_bed.links import links
from al_lab.benchmarks.mgral_bed.pools import Bed
from al_lab.benchmarks.mgral_bed.run import COLUMNS, Results, read_table, run
from al_lab.benchmarks.mgral_bed.tell import interval, tell
from al_lab.benchmarks.mgral_bed.unit import Size, Unit

TINY = Size(initial=24, budget=8, rows=5, num_clusters=4, iterations=3, random=3, trainings=2)


def made_up(name: str = "base", *_: object) -> Bed:
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, 220)
    x = (np.eye(3)[kind] @ rng.normal(size=(3, 12)) + 2 * rng.normal(size=(220, 12))).astype(np.float32)
    y = np.eye(3, dtype=bool)[kind] | (rng.random((220, 3)) < 0.1)
    parts = np.split(np.arange(220), [120, 170])
    ids = tuple(f"i{n:03d}" for n in parts[0])
    return Bed(name, ids, *(a[p] for p in parts for a in (x, y)), kind_N=np.full(120, -1))


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("al_lab.benchmarks.mgral_bed.head._STEPS", 6)
        yield


@pytest.fixture(scope="module")
def unit() -> Unit:
    return Unit(made_up(), 0, TINY)


def test_heads_of_several_seeds_are_those_of_each_alone_but_for_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("al_lab.benchmarks.mgral_bed.head._DROPOUT", 0.0)
    bed = made_up()
    train = Truth(bed.pool_ND[:30], bed.pool_NC[:30])
    together = fit(train, [3, 4])
    for s, seed in enumerate((3, 4)):
        alone = fit(train, [seed])
        np.testing.assert_allclose(together.w2_SWC[s].detach(), alone.w2_SWC[0].detach(), atol=1e-4)
    row = go_on(fit(train, [3]), train, bed.pool_ND[60:70], 1)
    assert mean_ap(row, Truth(bed.test_TD, bed.test_TC)).shape == (1,)


def test_mean_ap_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    from al_lab.benchmarks.mgral_bed.head import probabilities

    bed = made_up()
    heads = fit(Truth(bed.pool_ND[:12], bed.pool_NC[:12]), [0])
    test = Truth(bed.test_TD, bed.test_TC)
    p = probabilities(heads, test.x_ND)[:, 0]
    expected = 100 * np.mean([metrics.average_precision_score(test.y_NC[:, c], p[:, c]) for c in range(3)])
    assert mean_ap(heads, test)[0] == pytest.approx(expected, abs=1e-9)


def test_what_is_labeled_stands_behind_the_candidates(unit: Unit) -> None:
    assert unit.images.num == 120 - TINY.initial
    assert all(batch.max() < unit.images.num for batch in [*unit.rows("uniform"), *unit.rows("clusters"), *unit.random])
    parts = unit.parts()
    assert all(part.min() >= unit.images.num and len(part) == TINY.initial // 4 for part in parts)
    records = unit.records("labeled", "true")
    assert not records.are_batches
    assert all(len(np.intersect1d(a, b)) == 0 for a, b in zip(records.bases, records.batches, strict=True))


def test_links_are_told_of_every_predictor(unit: Unit) -> None:
    facts = list(links(unit))
    assert {link for link, _, _ in facts} == {"a", "b", "c"}
    names = [name for _, name, _ in facts]
    assert len(names) == len(set(names))
    assert {"ridge, labeled rows, true rewards: of designed batches", "surrogate, clusters rows"} <= set(names)


def test_gains_by_gradients_are_what_a_step_along_each_possible_label_changes(unit: Unit) -> None:
    import torch
    from torch.nn import functional

    bed = made_up()
    known, x = Truth(bed.val_VD, bed.val_VC), bed.pool_ND[:3]
    head = unit.base
    last = (head.w2_SWC, head.b2_SC)
    y_known = torch.from_numpy(known.y_NC.astype(np.float32))

    def loss(x_ND: np.ndarray, y_NC: torch.Tensor) -> torch.Tensor:
        logits = head(torch.from_numpy(x_ND))[:, 0]
        return functional.binary_cross_entropy_with_logits(logits, y_NC, reduction="sum") / len(x_ND)

    direction = torch.autograd.grad(loss(known.x_ND, y_known), last)
    found = expected_gains(head, x, known)
    p_NC = head(torch.from_numpy(x))[:, 0].sigmoid().detach()
    for n in range(len(x)):
        expected = 0.0
        for c in range(3):  # each class alone, with and without it
            for y, weight in ((1.0, float(p_NC[n, c])), (0.0, 1 - float(p_NC[n, c]))):
                label = p_NC[n : n + 1].clone()
                label[0, c] = y  # the other classes' gradients are zero at their own probability
                step = torch.autograd.grad(loss(x[n : n + 1], label), last)
                expected += weight * abs(sum(float((a * b).sum()) for a, b in zip(step, direction, strict=True)))
        assert found[n] == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_a_run_that_was_cut_goes_on_and_ends_in_the_same_table(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(bed_run, "load_bed", made_up)
    arms = ("entropy", "gradient", "gradient, set", "as built")
    whole = Results(tmp_path / "whole", TINY)
    list(run(["base"], [0, 1], tmp_path, whole, TINY, tmp_path / "whole.csv", arms))
    cut = Results(tmp_path / "cut", TINY)
    for line, _ in zip(run(["base"], [0, 1], tmp_path, cut, TINY, tmp_path / "cut.csv", arms), range(2), strict=False):
        assert line.startswith("base seed 0 | ")
    assert not (tmp_path / "cut.csv").exists()
    done = list(run(["base"], [0, 1], tmp_path, cut, TINY, tmp_path / "cut.csv", arms))
    assert not any("seed 0 | links" in line for line in done)
    assert (tmp_path / "cut.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert list(run(["base"], [0, 1], tmp_path, cut, TINY, tmp_path / "cut.csv", arms)) == []
    rows = read_table(tmp_path / "cut.csv")
    assert {row[1] for row in rows} == {0, 1}
    assert len(rows[0]) == len(COLUMNS)
    ranks = {row[3] for row in rows if row[2] == "b" and row[3].startswith("gradient")}
    assert ranks == {f"{arm}, {kind} rows" for arm in arms[1:3] for kind in ("uniform", "clusters")}
    said = "\n".join(tell(rows))
    assert "**e. what is gained" in said and "| as built |" in said


def test_an_interval_is_students() -> None:
    assert interval([1.0]) == "+1.00 (1)"
    assert interval([1.0, 3.0]) == "+2.00 ± 12.71 (2)"
