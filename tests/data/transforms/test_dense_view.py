"""Other views of a batch: labels go with their pixels, and what is drawn depends on the step and the image alone."""

import pytest
import torch

from al_lab.core.errors import ConfigError
from al_lab.core.rng import Rng
from al_lab.data.loading.dense_join import DenseBatch
from al_lab.data.transforms.dense_view import DenseAugmentation

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)
STILL = {"jitter": 0.0, "blur": 0.0}


def batch(source: int = 2, target: int = 3) -> DenseBatch:
    """The labels of an image are its first channel."""
    g = torch.Generator().manual_seed(0)
    values = [torch.randint(0, 5, (n, *hw), generator=g) for n, hw in ((source, (24, 40)), (target, (20, 32)))]
    images = [v[:, None].expand(-1, 3, -1, -1).float() if len(v) else None for v in values]
    labels = [v if len(v) else None for v in values]
    ids = [f"source/{k}" for k in range(source)] + [f"t{k}" for k in range(target)]
    return DenseBatch(images[0], labels[0], images[1], labels[1], ids)


@pytest.mark.parametrize("data", [batch(), batch(source=0), batch(target=0)])
def test_a_crop_takes_its_labels_along(data: DenseBatch) -> None:
    view = DenseAugmentation(size_hw=[16, 24], scale=[1.0, 1.0], flip=0.5, strong=STILL)(data, Rng(0, 3), MEAN, STD)
    for domain in ("source", "target"):
        images, labels = getattr(view, f"{domain}_images"), getattr(view, f"{domain}_labels")
        if getattr(data, f"{domain}_images") is None:
            assert images is None and labels is None
            continue
        assert images.shape[2:] == labels.shape[1:] == (16, 24)
        assert torch.equal(images[:, 0], labels.float())
        assert not torch.equal(labels, getattr(data, f"{domain}_labels")[:, :16, :24])


def test_each_domain_keeps_its_size() -> None:
    view = DenseAugmentation()(batch(), Rng(0, 3), MEAN, STD)
    assert (view.source_images.shape, view.target_labels.shape) == ((2, 3, 24, 40), (3, 20, 32))
    assert view.sample_ids == batch().sample_ids


def test_nothing_drawn_is_nothing_changed() -> None:
    view = DenseAugmentation(scale=[1.0, 1.0], flip=0.0, strong=STILL)(batch(), Rng(0, 3), MEAN, STD)
    assert torch.equal(view.source_images, batch().source_images)
    assert torch.equal(view.target_labels, batch().target_labels)


def test_a_draw_is_a_function_of_the_step_and_the_image() -> None:
    """Two devices that share the batch see what one sees; another step sees something else."""
    whole, augmentation = batch(), DenseAugmentation()
    half = DenseBatch(whole.source_images[1:], whole.source_labels[1:], whole.target_images[2:],
                      whole.target_labels[2:], ["source/1", "t2"])  # fmt: skip
    seen, part = (augmentation(b, Rng(0, "step", 5), MEAN, STD) for b in (whole, half))
    assert torch.equal(seen.source_images[1:], part.source_images)
    assert torch.equal(seen.target_labels[2:], part.target_labels)
    later = augmentation(whole, Rng(0, "step", 6), MEAN, STD)
    assert not torch.equal(seen.target_images, later.target_images)


def test_colors_change_and_labels_do_not() -> None:
    strong = {"jitter": 1.0, "blur": 1.0}
    view = DenseAugmentation(scale=[1.0, 1.0], flip=0.0, strong=strong)(batch(), Rng(0, 3), MEAN, STD)
    assert torch.equal(view.source_labels, batch().source_labels)
    assert float((view.source_images - batch().source_images).abs().mean()) > 0.05


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"size_hw": [16]}, "trainer.augmentation.size_hw"),
        ({"scale": [0.0, 1.0]}, "trainer.augmentation.scale: expected .lowest, highest., above 0"),
        ({"flip": 2}, "trainer.augmentation.flip"),
        ({"strong": {"hue": 0.7}}, "trainer.augmentation.strong.hue"),
    ],
)
def test_what_is_no_value_is_named(options: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        DenseAugmentation(**options)
