import pytest

from al_lab.core.errors import ConfigError
from al_lab.data.loading.sampler import StepSampler

IDS = [f"i{n:02d}" for n in range(10)]


def _ids(sampler):
    return [[d.sample_id for d in batch] for batch in sampler]


def test_the_stream_is_one_permutation_after_another():
    flat = sum(_ids(StepSampler(IDS, 4, seed=0, stop_step=10)), [])
    epochs = [flat[n : n + 10] for n in range(0, 40, 10)]
    assert all(sorted(e) == IDS for e in epochs)
    assert len({tuple(e) for e in epochs}) == 4


def test_a_batch_is_a_function_of_seed_and_step():
    whole = _ids(StepSampler(IDS, 4, seed=0, stop_step=10))
    assert _ids(StepSampler(IDS[::-1], 4, seed=0, first_step=7, stop_step=10)) == whole[7:]
    assert len(StepSampler(IDS, 4, seed=0, first_step=7, stop_step=10)) == 3
    assert _ids(StepSampler(IDS, 4, seed=1, stop_step=10)) != whole
    assert [d.step for d in StepSampler(IDS, 4, seed=0, stop_step=10).batch(6)] == [6] * 4


def test_devices_share_one_global_batch():
    whole = list(StepSampler(IDS, 6, seed=0, stop_step=5))
    parts = [list(StepSampler(IDS, 6, seed=0, stop_step=5, rank=r, world=3)) for r in range(3)]
    for batch, shares in zip(whole, zip(*parts, strict=True), strict=True):
        assert [half for start in (0, 1) for share in shares for half in share[start : start + 1]] == batch


def test_partners_half_a_batch_apart_stay_on_one_device():
    whole = StepSampler(IDS, 4, seed=0, stop_step=1, unlabeled=IDS[:4], unlabeled_per_batch=4).batch(0)
    for rank in range(2):
        (share,) = StepSampler(
            IDS, 4, seed=0, stop_step=1, unlabeled=IDS[:4], unlabeled_per_batch=4, rank=rank, world=2
        )
        assert [(share[n], share[n + 2]) for n in range(2)] == [
            (whole[2 * rank + n], whole[2 * rank + n + 4]) for n in range(2)
        ]


def test_copies_in_one_batch_are_told_apart():
    batch = StepSampler(["a", "b"], 5, seed=0, stop_step=1).batch(0)
    assert sorted((d.sample_id, d.copy) for d in batch if d.sample_id == batch[0].sample_id) == [
        (batch[0].sample_id, n) for n in range(sum(d.sample_id == batch[0].sample_id for d in batch))
    ]
    assert {d.copy for d in batch} == {0, 1, 2}


def test_g3_labeled_and_unlabeled_alternate():
    unlabeled = [f"u{n:02d}" for n in range(25)]
    sampler = StepSampler(IDS, 5, seed=0, stop_step=2, unlabeled=unlabeled, unlabeled_per_batch=5)
    epoch = sum(_ids(sampler), [])
    assert [i[0] for i in epoch] == ["i", "u"] * 10
    assert sorted(epoch[::2]) == IDS
    assert len(set(epoch[1::2])) == 10


def test_a_batch_that_devices_cannot_share_is_refused():
    with pytest.raises(ConfigError, match="expected a batch that 3 devices can share equally, got 4 images"):
        StepSampler(IDS, 4, seed=0, stop_step=1, world=3)


@pytest.mark.parametrize(("labeled", "unlabeled", "name"), [([], IDS, "labeled"), (IDS, [], "unlabeled")])
def test_a_set_that_is_needed_may_not_be_empty(labeled, unlabeled, name):
    with pytest.raises(ConfigError, match=f"got no {name} images at all"):
        StepSampler(labeled, 4, seed=0, stop_step=1, unlabeled=unlabeled, unlabeled_per_batch=4)


@pytest.mark.parametrize("world", [1, 2])
def test_shuffled_places_hold_the_same_images_and_mix_labeled_with_unlabeled_ones(world: int) -> None:
    kinds = {"unlabeled": [f"u{n:02d}" for n in range(20)], "unlabeled_per_batch": 8, "seed": 0, "stop_step": 400}
    plain = _ids(StepSampler(IDS, 8, **kinds))
    shares = [list(StepSampler(IDS, 8, **kinds, shuffle_places=True, rank=r, world=world)) for r in range(world)]
    draws = [[d for part in step for d in part] for step in zip(*shares, strict=True)]
    assert [sorted(d.sample_id for d in batch) for batch in draws] == [sorted(batch) for batch in plain]
    half = 8 // world
    pairs = [(part[n], part[n + half]) for share in shares for part in share for n in range(half)]
    mixed = sum(a.sample_id[0] != b.sample_id[0] for a, b in pairs) / len(pairs)
    assert mixed == pytest.approx(8 / 15, abs=0.03)  # 3200 pairs: four standard errors
    assert not any(a[0] != b[0] for batch in plain for a, b in zip(batch[:8], batch[8:], strict=True))


@pytest.mark.parametrize("world", [1, 2])
def test_steps_may_leave_out_what_has_no_label(world: int) -> None:
    options = {"seed": 0, "stop_step": 4, "unlabeled": IDS[5:], "unlabeled_per_batch": 4, "world": world}
    for rank in range(world):
        whole = list(StepSampler(IDS[:5], 4, rank=rank, **options))
        some = list(StepSampler(IDS[:5], 4, rank=rank, labeled_only=lambda step: step % 2 == 0, **options))
        assert some[1::2] == whole[1::2]
        assert some[::2] == [[d for d in batch if d.sample_id in IDS[:5]] for batch in whole[::2]]
        assert all(some)
