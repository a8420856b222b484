"""Batches of segmentation: both domains, resized once, labels where they were bought, whatever process or device makes
them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from al_lab.core.errors import ConfigError, DataError
from al_lab.data.loading.dense_batch import (
    BoughtPixels,
    dense_predict_batches,
    dense_train_batches,
    domain_counts,
)
from al_lab.data.loading.dense_join import DenseBatch, PackedDenseBatch
from tests.patches import Patches, buy

NETWORK = SimpleNamespace(mean=(120.0, 110.0, 100.0), std=(60.0, 50.0, 40.0))
EVERY_THIRD = range(0, 24 * 32, 3)


@pytest.fixture
def dataset() -> Patches:
    return Patches()


@pytest.fixture
def bought(tmp_path: Path, dataset: Patches) -> BoughtPixels:
    """A third of p/0 before cycle 1, more of it later."""
    buy(tmp_path, dataset, 0, {"p/0": EVERY_THIRD})
    buy(tmp_path, dataset, 1, {"p/0": [1, 2]})
    dataset.opened.clear()
    return BoughtPixels(tmp_path, ("p/0",), 1)


def batches(
    dataset: Patches, bought: BoughtPixels, *, source_ratio: float = 0.5, source_balance: bool = True, **options: Any
) -> list[DenseBatch]:
    objective = SimpleNamespace(
        source_ratio=source_ratio, source_balance=source_balance, bought_ratio=options.pop("bought_ratio", 0.0)
    )
    values = {"targets": dataset.pool_ids, "batch_size": 4, "seed": 0, "first_step": 0, "stop_step": 4} | options
    return list(dense_train_batches(dataset, bought, network=NETWORK, objective=objective, **values))


def resized(array: np.ndarray, hw: tuple[int, int], how: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(array).resize(hw[::-1], how))


def test_a_batch_has_both_domains_each_at_its_size(dataset, bought):
    batch = batches(dataset, bought)[0]
    assert (batch.source_images.shape, batch.source_labels.shape) == ((2, 3, 20, 28), (2, 20, 28))
    assert (batch.target_images.shape, batch.target_labels.shape) == ((2, 3, 16, 24), (2, 16, 24))
    assert [i.startswith("source/") for i in batch.sample_ids] == [True, True, False, False]
    assert len(batch) == 4
    pixels = resized(dataset.load_image(batch.sample_ids[0]), (20, 28), Image.Resampling.BICUBIC)
    expected = (pixels.astype(np.float32) - NETWORK.mean) / NETWORK.std
    torch.testing.assert_close(batch.source_images[0], torch.from_numpy(expected.transpose(2, 0, 1).astype(np.float32)))
    label = resized(dataset.source_label(batch.sample_ids[0]), (20, 28), Image.Resampling.NEAREST)
    assert torch.equal(batch.source_labels[0], torch.from_numpy(label.astype(np.int64)))


def test_target_labels_are_what_was_bought_before_the_cycle(dataset, bought):
    found = [
        (i, label)
        for b in batches(dataset, bought, targets=["p/0", "p/1"])
        for i, label in zip(b.sample_ids[2:], b.target_labels, strict=True)
    ]
    known = np.full(24 * 32, 255, np.uint8)
    known[EVERY_THIRD] = dataset.truth("p/0").reshape(-1)[EVERY_THIRD]
    expected = torch.from_numpy(resized(known.reshape(24, 32), (16, 24), Image.Resampling.NEAREST).astype(np.int64))
    assert {i for i, _ in found} == {"p/0", "p/1"}
    for sample_id, label in found:
        assert torch.equal(label, expected if sample_id == "p/0" else torch.full((16, 24), 255))
        assert label.dtype == torch.int64


def test_what_was_paid_for_and_what_is_left_of_it(dataset, bought):
    label = dataset.truth("p/0").reshape(-1)
    known = np.full(24 * 32, 255, np.uint8)
    known[EVERY_THIRD] = label[EVERY_THIRD]
    left = int((resized(known.reshape(24, 32), (16, 24), Image.Resampling.NEAREST) != 255).sum())
    assert (
        bought.count((16, 24))
        == bought.count((16, 24), num_workers=1)
        == {"bought_pixels": 256, "effective_labels": left}
    )
    assert (label[EVERY_THIRD] == 255).any(), "no void was bought: the next line proves nothing"
    assert bought.count(None) == {"bought_pixels": 256, "effective_labels": int((label[EVERY_THIRD] != 255).sum())}


def test_a_step_is_a_function_of_seed_and_step(dataset, bought):
    whole, rest, other = (
        batches(dataset, bought),
        batches(dataset, bought, first_step=2),
        batches(dataset, bought, seed=1),
    )
    assert [b.sample_ids for b in whole[2:]] == [b.sample_ids for b in rest]
    assert all(torch.equal(a.target_images, b.target_images) for a, b in zip(whole[2:], rest, strict=True))
    assert [b.sample_ids for b in whole] != [b.sample_ids for b in other]


def test_loader_processes_change_nothing(dataset, bought):
    for here, there in zip(batches(dataset, bought), batches(dataset, bought, num_workers=2), strict=True):
        assert here.sample_ids == there.sample_ids
        for name in ("source_images", "source_labels", "target_images", "target_labels"):
            assert torch.equal(getattr(here, name), getattr(there, name))


def test_bytes_that_a_device_finishes_are_the_batches_a_loader_makes(dataset, bought, monkeypatch):
    here = batches(dataset, bought)
    monkeypatch.setattr("al_lab.data.loading.dense_batch.has_gpu", lambda: True)
    for batch, packed in zip(here, batches(dataset, bought), strict=True):
        assert isinstance(packed, PackedDenseBatch) and packed.source_images.dtype == torch.uint8
        there = packed.to("cpu")
        assert (there.sample_ids, len(packed)) == (batch.sample_ids, len(batch))
        for name in ("source_images", "source_labels", "target_images", "target_labels"):
            assert torch.equal(getattr(batch, name), getattr(there, name))


def test_every_target_image_comes_once_a_pass(dataset, bought):
    seen = [i for b in batches(dataset, bought, stop_step=3) for i in b.sample_ids[2:]]
    assert sorted(seen) == sorted(dataset.pool_ids)


def test_bought_images_have_places_of_their_own(dataset, bought):
    plain, shared = batches(dataset, bought), batches(dataset, bought, bought_ratio=0.5)
    assert all(b.sample_ids[2] == "p/0" for b in shared)
    assert {b.sample_ids[3] for b in batches(dataset, bought, bought_ratio=0.5, stop_step=6)} == set(dataset.pool_ids)
    assert [b.sample_ids[:2] for b in plain] == [b.sample_ids[:2] for b in shared]
    nothing = BoughtPixels(bought.run_dir, (), 1)
    assert [b.sample_ids for b in batches(dataset, nothing, bought_ratio=0.5)] == [b.sample_ids for b in plain]


def test_without_balance_every_source_image_comes_once_a_pass(dataset, bought):
    seen = [i for b in batches(dataset, bought, source_balance=False, stop_step=5) for i in b.sample_ids[:2]]
    assert sorted(seen) == sorted(dataset.source_ids * 2)


@pytest.mark.parametrize("ratio", [0.5, 0.0, 1.0])
def test_devices_share_both_domains_of_the_one_batch(dataset, bought, ratio):
    whole = batches(dataset, bought, source_ratio=ratio, batch_size=8)
    ranks = [batches(dataset, bought, source_ratio=ratio, batch_size=8, rank=rank, world=2) for rank in (0, 1)]
    for one, *two in zip(whole, *ranks, strict=True):
        for domain in (True, False):
            mine = [[i for i in b.sample_ids if i.startswith("source/") is domain] for b in (one, *two)]
            assert mine[0] == mine[1] + mine[2]
            assert len(mine[1]) == len(mine[2])


def test_devices_that_cannot_share_are_refused(dataset, bought):
    with pytest.raises(
        ConfigError,
        match=r"each of 4 devices.*got 2 and 2 a step; change trainer.batch_size, objective.source_ratio or runtime",
    ):
        batches(dataset, bought, world=4)


@pytest.mark.parametrize(
    ("size", "ratio", "has_source", "has_target", "counts"),
    [
        (4, 0.5, True, True, (2, 2)),
        (4, 0.5, False, True, (0, 4)),
        (4, 0.5, True, False, (4, 0)),
        (4, 1.0, True, True, (4, 0)),
        (4, 0.0, True, True, (0, 4)),
        (4, 0.9, True, True, (3, 1)),
        (4, 0.01, True, True, (1, 3)),
        (2, 0.5, True, True, (1, 1)),
    ],
)
def test_the_domains_share_a_batch(size, ratio, has_source, has_target, counts):
    assert (
        domain_counts(size, SimpleNamespace(source_ratio=ratio), has_source=has_source, has_target=has_target) == counts
    )


def test_half_of_a_batch_is_source_unless_the_objective_says_otherwise():
    assert domain_counts(6, object(), has_source=True, has_target=True) == (3, 3)


@pytest.mark.parametrize(
    ("error", "size", "ratio", "has_source", "message"),
    [
        (
            DataError,
            4,
            0.5,
            False,
            "expected images to train on, got no source images and no target images; set budget.initial above 0",
        ),
        (DataError, 4, 0.0, True, r"no source images \(objective.source_ratio=0 leaves them out\)"),
        (ConfigError, 1, 0.5, True, "set trainer.batch_size to 2"),
    ],
)
def test_a_batch_without_a_domain_it_needs_is_refused(error, size, ratio, has_source, message):
    with pytest.raises(error, match=message):
        domain_counts(size, SimpleNamespace(source_ratio=ratio), has_source=has_source, has_target=error is ConfigError)


@pytest.mark.parametrize("with_source", [True, False])
def test_source_free_batches_never_open_a_source_file(bought, with_source):
    dataset = Patches(source=5 if with_source else 0)
    batch = batches(dataset, bought, source_ratio=0.0 if with_source else 0.5)[0]
    assert (batch.source_images, batch.source_labels, len(batch)) == (None, None, 4)
    assert not [i for i in dataset.opened if i.startswith("source/")]


def test_a_batch_of_the_source_alone_opens_no_target_file(dataset, bought):
    batch = batches(dataset, bought, source_ratio=1.0, targets=[])[0]
    assert (batch.target_images, batch.target_labels, len(batch)) == (None, None, 4)
    assert all(i.startswith("source/") for i in dataset.opened)


def test_images_of_two_sizes_need_one(bought):
    dataset = Patches(sizes=((24, 32), (20, 32)), target_hw=None)
    with pytest.raises(
        DataError,
        match=r"dataset.target_hw: expected images of one height and width, got .2\d, 32. of 'p/\d' and .2\d, 32. of",
    ):
        batches(dataset, bought)


def test_prediction_sees_the_images_asked_for_and_no_label(dataset):
    ids = ("t/2", "p/0", "t/0")
    found = list(dense_predict_batches(dataset, ids, network=NETWORK, batch_size=2))
    assert [b.sample_ids for b in found] == [["t/2", "p/0"], ["t/0"]]
    assert dataset.opened == list(ids)
    assert all(
        b.target_labels is None and b.source_images is None and b.target_images.shape[1:] == (3, 16, 24) for b in found
    )
    assert found[0].to("cpu").sample_ids == ["t/2", "p/0"]
