"""What read-outs say of a batch, against the same said image by image and box by box."""

import pytest
import torch
import torch.nn.functional as F

from al_lab.acquisition.diversity.mixtures import mixture
from al_lab.learners.readouts.box_features import box_features
from al_lab.learners.readouts.look import Look
from al_lab.learners.readouts.of_images import class_difficulty, head_disagreement, prior_mixture
from al_lab.models.detectors.network import AnchorDetector
from al_lab.models.detectors.settings import Postprocess
from al_lab.models.detectors.squeeze import SqueezeDetector
from al_lab.models.detectors.tiny import TinyDetector

SIZES = [(60, 120), (100, 50), (64, 64)]


def looked(network: AnchorDetector, conf_min: float = 0.3, valid: int | None = None) -> Look:
    images = torch.randn(3, 3, *network.input_hw, generator=torch.Generator().manual_seed(3))
    valid_hw = torch.tensor([network.input_hw] * 3) if valid is None else torch.tensor([[valid, valid]] * 3)
    with torch.inference_mode():
        head = network.eval().look(images, valid_hw)
        found = network.detections(head, SIZES, valid_hw, Postprocess(conf_min, 0.5, None, None, 20))
    return Look(network, images, head, found, SIZES, valid_hw)


def squeeze(**options) -> SqueezeDetector:
    torch.manual_seed(0)
    return SqueezeDetector(3, input_px=96, weights=None, **options)


def tiny(**options) -> TinyDetector:
    torch.manual_seed(0)
    return TinyDetector(3, input_px=96, widths=(8, 8, 8, 16, 24), **options)


def test_a_mixture_is_that_of_an_images_foreground_distributions():
    look = looked(squeeze())
    for row, found in enumerate(prior_mixture(look, {})):
        expected = mixture(look.head.logits[row, :, 1:].softmax(-1))
        torch.testing.assert_close(torch.from_numpy(found["prior_mixture"]), expected)
    probs = look.network.probs(look.head.logits)
    floor = float(probs[..., 1:].amax(-1).median())
    for row, found in enumerate(prior_mixture(look, {"min_confidence": floor})):
        keep = probs[row, :, 1:].amax(-1) > floor
        expected = mixture(look.head.logits[row, keep, 1:].softmax(-1))
        torch.testing.assert_close(torch.from_numpy(found["prior_mixture"]), expected)
    nothing, by_class = prior_mixture(look, {"min_confidence": 1.0}), prior_mixture(look, {"by_class": True})
    assert nothing[0]["prior_mixture"].tolist() == pytest.approx([1 / 3] * 3)
    assert by_class[0]["prior_mixture"].shape == (3, 3)


def test_a_sigmoid_heads_mixture_is_of_anchors_that_may_show_something():
    network = squeeze()
    look = looked(network)
    network.activation = "sigmoid"
    logits = torch.full((3, 4, 3), -6.0)
    logits[0, 0] = torch.tensor([2.0, -1.0, 0.0])
    p = logits[0, :1].sigmoid()
    found = prior_mixture(Look(network, look.images, look.head._replace(logits=logits), [], SIZES, look.valid_hw), {})
    torch.testing.assert_close(torch.from_numpy(found[0]["prior_mixture"]), mixture(p / p.sum(1, keepdim=True)))
    assert found[1]["prior_mixture"].tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize(("sampling", "valid"), [("center", None), ("center", 80), ("released", 80)])
def test_a_box_has_its_levels_map_at_its_center(sampling, valid):
    """Against one bilinear sample a box, by hand; ``released`` divides x by the height and y by the width."""
    look, levels, total = looked(squeeze(), valid=valid), set(), 0
    maps = look.head.features[1:]
    for row, found in enumerate(box_features(look, {"sampling": sampling})):
        boxes, features = look.detections[row], found["box_features"]
        assert features.shape == (len(boxes), 128)
        for k in range(0, len(boxes), 5):
            level = 0
            while boxes.anchor[k] >= sum(look.head.level_sizes[: level + 1]):
                level += 1
            h, w = SIZES[row]
            valid_h, valid_w = look.valid_hw[row].tolist()
            x, y = (boxes.boxes_xyxy[k, :2] + boxes.boxes_xyxy[k, 2:]) / 2 * [valid_w / w, valid_h / h]
            over = (valid_h, valid_w) if sampling == "released" else (96, 96)
            grid = torch.tensor([[[[2 * x / over[0] - 1, 2 * y / over[1] - 1]]]], dtype=torch.float32)
            expected = F.grid_sample(maps[level][row : row + 1], grid, align_corners=False)[0, :, 0, 0]
            torch.testing.assert_close(torch.from_numpy(features[k]), expected)
            levels.add(level)
            total += 1
    assert len(levels) > 1 and total > 5


def test_maps_of_different_widths_give_each_box_its_mean_over_the_second():
    look = looked(tiny(), conf_min=0.2)
    found = box_features(look, {})
    assert sum(len(d) for d in look.detections) > 0
    for detections, one in zip(look.detections, found, strict=True):
        assert one["box_features"].shape == (len(detections), 16)


def test_an_image_without_boxes_has_none():
    for network in (squeeze(), tiny()):
        look = looked(network, conf_min=0.999)
        assert [len(f["box_features"]) for f in box_features(look, {})] == [0, 0, 0]


def test_difficulties_are_what_a_training_left():
    network = tiny(branches=["class_quality"])
    network.branch("class_quality").quality.copy_(torch.tensor([0.25, 0.0, 1.0]))
    assert "class_difficulty" in network.provides
    assert [d["class_difficulty"].tolist() for d in class_difficulty(looked(network), {})] == [[0.75, 1.0, 0.0]] * 3


def padded(branch: str) -> tuple[Look, Look]:
    """An image in the upper left of a padded input whose rest is noise to the head, and the same head without it.

    The levels of 96 px are 12, 6, 3, 2 and 1 cells wide; of 48 px they would be 6, 3, 2, 1 and 1.
    """
    network = tiny(branches=[branch])
    network.resize = "keep_ratio"
    look = looked(network, valid=48)
    inside = (look.head.priors[:, :2] < 0.5).all(1)
    extra = {k: v[:, inside] if v.ndim == 3 else v for k, v in look.head.extra.items()}
    alone = look.head._replace(
        logits=look.head.logits[:, inside], priors=look.head.priors[inside] * 2, extra=extra, input_hw=(48, 48)
    )
    return look, Look(network, look.images[..., :48, :48], alone, [], SIZES, look.valid_hw)


@pytest.mark.parametrize("options", [{}, {"min_confidence": 0.2}, {"by_class": True}])
def test_anchors_in_the_padding_are_in_no_mixture(options):
    look, alone = padded("class_quality")
    assert 0 < len(alone.head.priors) < len(look.head.priors)
    for one, other in zip(prior_mixture(look, options), prior_mixture(alone, options), strict=True):
        torch.testing.assert_close(torch.from_numpy(one["prior_mixture"]), torch.from_numpy(other["prior_mixture"]))


@pytest.mark.parametrize("top", [3, 10_000])
def test_heads_disagree_over_the_image_alone(top):
    look, alone = padded("two_heads")
    found = [[float(v["head_disagreement"]) for v in head_disagreement(x, {"top": top})] for x in (look, alone)]
    assert found[0] == pytest.approx(found[1])
    everywhere = Look(look.network, look.images, look.head, [], SIZES, torch.tensor([[96, 96]] * 3))
    assert found[0] != pytest.approx(
        [float(v["head_disagreement"]) for v in head_disagreement(everywhere, {"top": top})]
    )


def test_a_loss_is_predicted_of_the_image_alone():
    network = tiny(branches=["learning_loss"]).eval()
    network.resize = "keep_ratio"
    images, valid_hw = torch.randn(2, 3, 96, 96), torch.tensor([[48, 72], [96, 96]])
    with torch.inference_mode():
        seen, (both, _) = network.look(images, valid_hw), network.look_flipped(images, valid_hw)
        assert network.branch("learning_loss").valid is None
        for row, shares in enumerate((valid_hw / 96).tolist()):
            cells = [
                [max(1, -int(-(s * n - 0.5) // 1)) for s, n in zip(shares, m.shape[2:], strict=True)]
                for m in seen.features
            ]
            cut = [m[row : row + 1, :, :h, :w] for m, (h, w) in zip(seen.features, cells, strict=True)]
            alone = network.branch("learning_loss").predict(cut)[0]
            torch.testing.assert_close(seen.extra["predicted_loss"][row], alone)
            torch.testing.assert_close(both.extra["predicted_loss"][row], alone)
    assert not torch.allclose(seen.extra["predicted_loss"], network(images).extra["predicted_loss"])
