from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torchvision import tv_tensors

from al_lab.core.errors import DataError
from al_lab.core.types import Annotation
from al_lab.data.datasets.voc_folder import VOCFolder
from al_lab.data.loading.batch import Batch, Kind, PackedBatch
from al_lab.data.loading.datamodule import predict_batches, train_batches
from al_lab.data.transforms.detection import Augmentation, LightAugmentation, SSDAugmentation

NETWORK = SimpleNamespace(input_hw=(32, 32), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), resize="fixed", pad_divisor=1)


class Stripes(Augmentation):
    """A recipe that computes with colors itself."""

    def augment(self, sample, rng, spec):
        image = sample.image.float()
        image[:, ::2] *= rng.uniform(0, 1)
        return replace(sample, image=tv_tensors.Image(image))


def _settings(batch_size=4, augmentation=None, **more):
    return SimpleNamespace(batch_size=batch_size, augmentation=augmentation, **more)


@pytest.fixture
def dataset(voc_tree):
    return VOCFolder(str(voc_tree({f"{n:02d}": [("dog", 2, 2, 31, 21)] for n in range(8)})), test_split="none")


@pytest.fixture
def bought(dataset):
    # Not the dataset's truth: training must use what it is given.
    return {i: Annotation.make([[0, 0, 30, 20], [30, 20, 60, 40]], [0, 1]) for i in dataset.pool_ids}


def _train(dataset, bought, **options):
    options = {"network": NETWORK, "labeled": dataset.pool_ids, "settings": _settings(), "seed": 0, "first_step": 0,
               "stop_step": 5} | options  # fmt: skip
    return list(train_batches(dataset, bought, **options))


def _equal(a: Batch, b: Batch) -> bool:
    return a.sample_ids == b.sample_ids and torch.equal(a.images, b.images) and all(map(torch.equal, a.boxes, b.boxes))


def test_boxes_are_what_was_bought_and_not_the_truth(dataset, bought, monkeypatch):
    monkeypatch.setattr(VOCFolder, "truth", lambda self, sample_id: pytest.fail("training read the truth"))
    batches = _train(dataset, bought)
    assert len(batches) == 5
    assert batches[0].images.shape == (4, 3, 32, 32)
    torch.testing.assert_close(batches[0].boxes[0], torch.tensor([[0, 0, 16, 16], [16, 16, 32, 32]]).float())
    assert batches[0].labels[0].tolist() == [0, 1]
    assert batches[0].kind.tolist() == [Kind.LABELED] * 4
    assert batches[0].sizes_hw.tolist() == [[40, 60]] * 4


@pytest.mark.parametrize("workers", [0, 2])
def test_going_on_from_a_step_gives_the_same_batches(dataset, bought, workers):
    settings = _settings(augmentation=SSDAugmentation())
    whole = _train(dataset, bought, settings=settings)
    later = _train(dataset, bought, settings=settings, first_step=3, num_workers=workers)
    assert all(map(_equal, later, whole[3:]))
    other = _train(dataset, bought, settings=settings, seed=1)
    assert not any(map(_equal, other, whole))


def test_two_devices_see_the_batch_of_one(dataset, bought):
    settings = _settings(augmentation=SSDAugmentation())
    whole = _train(dataset, bought, settings=settings)
    halves = [_train(dataset, bought, settings=settings, rank=r, world=2) for r in range(2)]
    for batch, first, second in zip(whole, *halves, strict=True):
        assert torch.equal(
            batch.images, torch.stack([first.images, second.images]).unflatten(1, (2, -1)).transpose(0, 1).flatten(0, 2)
        )


def test_loading_leaves_the_global_generator_alone(dataset, bought):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    _train(dataset, bought, settings=_settings(augmentation=SSDAugmentation()))
    list(predict_batches(dataset, dataset.pool_ids, network=NETWORK, batch_size=3))
    assert torch.equal(torch.get_rng_state(), before)


def test_crowds_and_difficult_objects_are_left_out(dataset, bought):
    boxes = [[0, 0, 30, 20], [0, 0, 10, 10], [5, 5, 20, 20]]
    odd = {i: Annotation.make(boxes, [0, 1, 1], difficult=[0, 1, 0], crowd=[0, 0, 1]) for i in bought}
    assert [len(b) for b in _train(dataset, odd)[0].labels] == [1] * 4
    kept = _train(dataset, odd, settings=_settings(drop_difficult=False))
    assert [b.tolist() for b in kept[0].labels] == [[0, 1]] * 4


def test_unlabeled_and_pseudo_labeled_images_say_so(dataset, bought):
    labeled, unlabeled = dataset.pool_ids[:4], dataset.pool_ids[4:]
    known = {i: bought[i] for i in labeled}
    pseudo = {unlabeled[0]: Annotation.make([[0, 0, 9, 9]], [1])}
    objective, settings = SimpleNamespace(labeled_ratio=0.5), _settings(batch_size=8)
    (batch,) = _train(
        dataset,
        known,
        labeled=labeled,
        unlabeled=unlabeled,
        objective=objective,
        settings=settings,
        pseudo=pseudo,
        stop_step=1,
    )
    kinds = dict(zip(batch.sample_ids, batch.kind.tolist(), strict=True))
    assert kinds == {i: Kind.LABELED for i in labeled} | {i: Kind.UNLABELED for i in unlabeled} | {
        unlabeled[0]: Kind.PSEUDO
    }
    assert not batch.rows(batch.places_of(Kind.UNLABELED)).boxes.any()
    assert batch.rows(batch.places_of(Kind.PSEUDO)).boxes.any(-1).sum() == 1
    assert len(_train(dataset, known, labeled=labeled, unlabeled=unlabeled)[0]) == 4  # an objective that asks for none


def test_a_labeled_image_without_labels_is_refused(dataset, bought):
    bought.pop("03")
    with pytest.raises(
        DataError, match="expected a bought annotation for each labeled image, got 1 without, first '03'"
    ):
        _train(dataset, bought)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named(dataset, bought, workers):
    dataset.image_path("05").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"05\.jpg: expected a readable image"):
        _train(dataset, bought, num_workers=workers)


def test_prediction_keeps_the_order_and_pads_right_and_below(dataset, write_image):
    write_image(dataset.image_path("01"), (60, 40))
    network = SimpleNamespace(
        input_hw=(20, 40), mean=(9.0, 9.0, 9.0), std=(1.0,) * 3, resize="keep_ratio", pad_divisor=8
    )
    batches = list(predict_batches(dataset, ("03", "01", "02"), network=network, batch_size=2))
    assert [b.sample_ids for b in batches] == [["03", "01"], ["02"]]
    assert batches[0].images.shape == (2, 3, 32, 32)
    assert batches[0].valid_hw.tolist() == [[20, 30], [30, 20]]
    assert batches[0].sizes_hw.tolist() == [[40, 60], [60, 40]]
    assert batches[0].images[0, :, 20:].abs().sum() == batches[0].images[0, :, :, 30:].abs().sum() == 0
    assert batches[1].images.shape == (1, 3, 24, 32)
    assert batches[1].to("cpu").boxes[0].shape == (0, 4)


def test_boxes_of_a_batch_are_one_tensor_and_rows_keep_what_is_theirs(dataset, bought):
    (batch, *_) = _train(dataset, bought)
    assert batch.boxes.shape[::2] == (len(batch), 4) and batch.labels.shape == batch.boxes.shape[:2]
    part = batch.rows([2, 0])
    assert part.sample_ids == [batch.sample_ids[2], batch.sample_ids[0]]
    assert torch.equal(part.boxes, batch.boxes[[2, 0]]) and torch.equal(part.valid_hw, batch.valid_hw[[2, 0]])


@pytest.mark.parametrize("resize", ["fixed", "keep_ratio"])
@pytest.mark.parametrize("recipe", [None, SSDAugmentation(), LightAugmentation(), Stripes()])
def test_bytes_that_a_device_finishes_are_the_inputs_a_loader_makes(dataset, bought, monkeypatch, recipe, resize):
    spec = {"input_hw": (24, 40), "mean": (99.0, 90.0, 80.0), "std": (2.0, 3.0, 4.0), "resize": resize}
    options = {"settings": _settings(augmentation=recipe), "network": SimpleNamespace(**spec, pad_divisor=8)}
    here = _train(dataset, bought, **options)
    monkeypatch.setattr("al_lab.data.loading.datamodule.has_gpu", lambda: True)
    packed = _train(dataset, bought, **options, num_workers=1)
    for batch, other in zip(here, packed, strict=True):
        there = other.to("cpu")
        assert isinstance(other, Batch if isinstance(recipe, Stripes) else PackedBatch)
        assert other.sample_ids == batch.sample_ids and len(other) == len(batch)
        assert torch.equal(there.images, batch.images) and there.images.is_contiguous()
        assert torch.equal(there.boxes, batch.boxes) and torch.equal(there.valid_hw, batch.valid_hw)


def test_only_what_a_device_computes_with_moves_there(dataset, bought):
    moved = _train(dataset, bought)[0].to("meta")
    assert [t.device.type for t in (moved.images, moved.boxes, moved.labels)] == ["meta"] * 3
    assert [t.device.type for t in (moved.kind, moved.sizes_hw, moved.valid_hw)] == ["cpu"] * 3


def test_as_many_unlabeled_images_as_labeled_ones_are_drawn_once_and_read_where_they_are_looked_at(dataset, bought):
    labeled, unlabeled = dataset.pool_ids[:2], dataset.pool_ids[2:]
    objective = SimpleNamespace(
        labeled_ratio=0.5, draws_as_many=True, labeled_only=lambda step, total_steps: 2 * step < total_steps
    )
    options = {"labeled": labeled, "unlabeled": unlabeled, "settings": _settings(batch_size=4), "total_steps": 6}
    drawn = []
    for seed in range(4):
        batches = _train(dataset, bought, objective=objective, seed=seed, **options)
        assert [len(b) for b in batches] == [2, 2, 2, 4, 4]
        seen = {i for b in batches for i in b.sample_ids} - set(labeled)
        assert len(seen) == 2
        drawn.append(frozenset(seen))
        backwards = {**options, "unlabeled": unlabeled[::-1]}
        assert all(map(_equal, batches, _train(dataset, bought, objective=objective, seed=seed, **backwards)))
    assert len(set(drawn)) > 1
