from types import SimpleNamespace

import numpy as np
import pytest
import torch

from al_lab.core.errors import ConfigError
from al_lab.data.transforms.color import Change
from al_lab.data.transforms.detection import (
    Augmentation,
    FlipAugmentation,
    InputSpec,
    LightAugmentation,
    Sample,
    SSDAugmentation,
    cropped,
    drawn,
    expanded,
    finish,
    flip_horizontally,
    plain,
    recolored,
)

SPEC = InputSpec((48, 64), (120.0, 110.0, 100.0), (2.0, 1.0, 1.0))
IMAGE = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
BOXES = np.array([[10, 20, 50, 60], [60, 5, 99, 70]], np.float32)
LABELS = np.array([1, 0])
RECIPES: list[Augmentation] = [SSDAugmentation(), SSDAugmentation("caffe"), LightAugmentation(), FlipAugmentation()]


def made(recipe, image, boxes, labels, seed, spec=SPEC):
    return finish(recipe(image, boxes, labels, np.random.default_rng(seed), spec), spec)


def test_the_plain_transform_resizes_subtracts_the_mean_and_divides():
    image = np.full((80, 100, 3), (130, 110, 90), np.uint8)
    pixels, boxes, labels = finish(plain(image, BOXES, LABELS, SPEC), SPEC)
    assert pixels.shape == (3, 48, 64)
    assert pixels.dtype == torch.float32
    assert type(pixels) is type(boxes) is torch.Tensor
    torch.testing.assert_close(pixels[:, 5, 5], torch.tensor([5.0, 0.0, -10.0]))
    torch.testing.assert_close(boxes, torch.tensor(BOXES) * torch.tensor([0.64, 0.6, 0.64, 0.6]))
    assert labels.tolist() == [1, 0]


def test_resizing_halves_like_opencvs_bilinear():
    image = np.zeros((2, 4, 3), np.uint8)
    image[:, 1] = 100
    spec = InputSpec((1, 2), (0, 0, 0))
    pixels, _, _ = finish(plain(image, BOXES[:0], LABELS[:0], spec), spec)
    assert pixels[0].tolist() == [[50, 0]]


def test_keep_ratio_inputs_differ_in_size():
    spec = InputSpec((60, 100), (0, 0, 0), resize="keep_ratio")
    pixels, boxes, _ = finish(plain(IMAGE, BOXES, LABELS, spec), spec)
    assert pixels.shape == (3, 60, 75)
    torch.testing.assert_close(boxes, torch.tensor(BOXES) * 0.75)


def test_g1_the_canvas_is_filled_with_the_mean():
    sample = drawn(expanded(Sample.of(IMAGE, BOXES, LABELS), 2.0, 30, 40, (1.0, 2.0, 3.0)))
    assert sample.size_hw == (160, 200)
    assert sample.image[:, 0, 0].tolist() == sample.image[:, 159, 199].tolist() == [1, 2, 3]
    assert sample.image[:, 40, 30].tolist() == IMAGE[0, 0].tolist()
    assert sample.boxes[0].tolist() == [40, 60, 80, 100]


def test_a_crop_takes_pixels_boxes_and_labels_along():
    sample = cropped(Sample.of(IMAGE, BOXES, LABELS), (55, 10, 100, 80))
    assert sample.size_hw == (70, 45)
    assert sample.image[:, 0, 0].tolist() == IMAGE[10, 55].tolist()
    assert sample.boxes.tolist() == [[5, 0, 44, 60]]
    assert sample.labels.tolist() == [0]


def test_flipping_twice_changes_nothing():
    sample = Sample.of(IMAGE, BOXES, LABELS)
    once, twice = flip_horizontally(sample), flip_horizontally(flip_horizontally(sample))
    assert once.boxes.tolist() == [[50, 20, 90, 60], [1, 5, 40, 70]]
    assert torch.equal(twice.image, sample.image)
    assert torch.equal(twice.boxes, sample.boxes)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: type(r).__name__)
def test_a_recipe_is_a_pure_function_of_its_generator(recipe):
    torch.manual_seed(0)
    np.random.seed(0)
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    image, boxes = IMAGE.copy(), BOXES.copy()
    first = [made(recipe, image, boxes, LABELS, n) for n in range(12)]
    again = [made(recipe, image, boxes, LABELS, n) for n in range(12)]
    assert all(torch.equal(a, b) for one, two in zip(first, again, strict=True) for a, b in zip(one, two, strict=True))
    assert torch.equal(torch.get_rng_state(), state[0])
    assert (np.random.get_state()[1] == state[1]).all()
    assert (image == IMAGE).all()
    assert (boxes == BOXES).all()
    assert len({tuple(b.flatten().tolist()) for _, b, _ in first}) > 1


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: type(r).__name__)
def test_boxes_stay_on_their_objects(recipe):
    """A bright object on black: wherever the recipe moves it, its box moves along."""
    image = np.zeros((80, 100, 3), np.uint8)
    image[20:60, 30:50] = 255
    spec = InputSpec((200, 200), (0, 0, 0))
    for n in range(30):
        pixels, boxes, labels = made(recipe, image, np.array([[30, 20, 50, 60]]), np.array([3]), n, spec)
        assert pixels.shape == (3, 200, 200)
        assert labels.tolist() == [3]
        bright = pixels.sum(0) > 0.5 * pixels.sum(0).max()
        if isinstance(recipe, SSDAugmentation):  # brightness and contrast leave black near black
            bright = pixels.sum(0) > 300
        rows, cols = torch.where(bright)
        seen = torch.tensor([cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]).float()
        assert (seen - boxes[0]).abs().max() <= 7  # bilinear edges: a few pixels after enlarging


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: type(r).__name__)
def test_an_image_without_boxes_goes_through(recipe):
    shapes = {tuple(made(recipe, IMAGE, BOXES[:0], LABELS[:0], n)[1].shape) for n in range(10)}
    assert shapes == {(0, 4)}


def test_an_unknown_crop_rule_is_refused():
    with pytest.raises(
        ConfigError,
        match=r"trainer.augmentation.crop_iou: expected legacy \| caffe, got 'cafe'; did you mean 'caffe'",
    ):
        SSDAugmentation("cafe")


def test_the_spec_is_read_from_a_network():
    network = SimpleNamespace(input_hw=[800, 1333], mean=(1, 2, 3), std=(4, 5, 6), resize="keep_ratio", pad_divisor=32)
    assert InputSpec.of(network) == InputSpec((800, 1333), (1, 2, 3), (4, 5, 6), "keep_ratio", 32)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: FlipAugmentation(flip=2), "flip"),
        (lambda: LightAugmentation(min_scale=-0.1), "min_scale"),
        (lambda: SSDAugmentation(expand_prob=1.1), "expand_prob"),
        (lambda: SSDAugmentation(max_expand=0.5), "max_expand"),
    ],
)
def test_numbers_that_are_no_probability_are_named(make, name):
    with pytest.raises(ConfigError, match=f"trainer.augmentation.{name}: expected a"):
        make()


def test_the_dummy_box_of_the_legacy_code_hardly_ever_lets_an_image_be_cropped():
    """Without expansion the corner is never strictly inside of a crop, so the whole image is kept; with it, the corner
    stays visible."""
    spec = InputSpec((48, 64), (0.0, 0.0, 0.0))
    recipe = {"photometric": 0.0, "expand_prob": 0.0, "flip": 0.0}
    seen = {
        name: [
            made(SSDAugmentation(unlabeled_crop=name, **recipe), IMAGE, BOXES[:0], LABELS[:0], n, spec)
            for n in range(20)
        ]
        for name in ("free", "legacy_dummy")
    }
    whole = finish(plain(IMAGE, BOXES[:0], LABELS[:0], spec), spec)[0]
    assert all(torch.allclose(image, whole, atol=1.0) for image, _, _ in seen["legacy_dummy"])
    assert sum(torch.allclose(image, whole, atol=1.0) for image, _, _ in seen["free"]) < 10
    assert {(len(boxes), len(labels)) for _, boxes, labels in seen["legacy_dummy"]} == {(0, 0)}


def test_what_is_left_for_later_changes_nothing():
    """Colors and canvas made at once, as the recipe reads, give the pixels of colors and canvas made at the end."""
    shown, steps = (
        set(),
        [
            lambda s: recolored(s, (Change("add", -9.0), Change("hue", 11.0), Change("saturation", 1.4))),
            lambda s: expanded(s, 2.3, 40, 60, SPEC.mean),
        ],
    )
    for n, rect in enumerate(
        [(0, 0, 229, 184), (60, 80, 110, 120), (0, 0, 90, 170), (130, 100, 229, 184), (0, 0, 39, 50)]
    ):
        late = now = Sample.of(IMAGE, BOXES, LABELS)
        for step in [*steps, lambda s, r=rect: cropped(s, r), flip_horizontally]:
            late, now = step(late), drawn(step(now))
        late = drawn(late)
        shown.add(late.image.unique().numel() > 3)
        assert torch.equal(late.image, now.image) and torch.equal(late.boxes, now.boxes), n
        assert late.labels.tolist() == now.labels.tolist()
    assert shown == {True, False}  # a crop may show nothing of the image


def test_colors_after_a_canvas_change_it_too():
    sample = recolored(expanded(Sample.of(IMAGE, BOXES, LABELS), 2.0, 0, 0, (10.0, 20.0, 30.0)), (Change("add", 5.0),))
    assert drawn(sample).image[:, -1, -1].tolist() == [15, 25, 35]
    twice = drawn(expanded(sample, 2.0, 0, 0, (1.0, 1.0, 1.0)))
    assert (twice.size_hw, twice.image[:, 159, 199].tolist()) == ((320, 400), [15, 25, 35])
