"""Decoding a batch: against a plain per-image, per-class reference, and for what must hold whatever the numbers."""

import dataclasses

import numpy as np
import pytest
import torch
import torchvision

from al_lab.core.errors import ConfigError, LabError
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.network import AnchorDetector
from al_lab.models.detectors.postprocess import decode_batch
from al_lab.models.detectors.priors import even_priors
from al_lab.models.detectors.settings import Postprocess

PRIORS = even_priors([(6, 6), (3, 3)], [0.2, 0.4, 0.8], [[2.0], [2.0]])
LEVELS = (144, 36)
SIZES = [(100, 200), (300, 150), (64, 64)]


def network(activation: str = "softmax", **kwargs) -> AnchorDetector:
    return AnchorDetector(3, (60, 60), activation=activation, **kwargs)


def head(activation: str = "softmax", spread: float = 2.0, seed: int = 0) -> HeadOutput:
    generator = torch.Generator().manual_seed(seed)
    width = 4 if activation == "softmax" else 3
    logits = torch.randn(3, len(PRIORS), width, generator=generator) * spread
    return HeadOutput(logits, torch.randn(3, len(PRIORS), 4, generator=generator), (), PRIORS, (60, 60), LEVELS)


def reference(out: HeadOutput, net: AnchorDetector, settings: Postprocess) -> list[list[tuple]]:
    """Do it the slow way: one image, level and class after the other."""
    result = []
    for b, (height, width) in enumerate(SIZES):
        probs = net.probs(out.logits[b])
        boxes = net.code.decode(out.deltas[b], PRIORS)
        if settings.clip:
            boxes = boxes.clamp(0, 1)
        pairs = [(float(probs[p, c + net.num_logits - 3]), p, c) for p in range(len(PRIORS)) for c in range(3)]
        pairs = sorted((t for t in pairs if t[0] > settings.conf_min), key=lambda t: (-t[0], t[1], t[2]))
        if settings.max_per_level:
            first = [t for t in pairs if t[1] < LEVELS[0]][: settings.max_per_level]
            pairs = first + [t for t in pairs if t[1] >= LEVELS[0]][: settings.max_per_level]
        rows = []
        for c in range(3):
            mine = [t for t in pairs if t[2] == c][: settings.max_per_class]
            index = torch.tensor([t[1] for t in mine], dtype=torch.long)
            keep = (
                torchvision.ops.nms(boxes[index], torch.tensor([t[0] for t in mine]), settings.nms_iou) if mine else []
            )
            rows += [mine[int(k)] for k in keep]
        rows.sort(key=lambda t: -t[0])
        scale = torch.tensor([width, height, width, height])
        result.append(
            [(conf, c, (boxes[p] * scale).tolist(), probs[p].tolist()) for conf, p, c in rows[: settings.max_per_image]]
        )
    return result


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "softmax_fg"])
@pytest.mark.parametrize(
    "settings",
    [
        Postprocess(),
        Postprocess(conf_min=0.3),
        Postprocess(max_per_class=5),
        Postprocess(max_per_class=None, max_per_level=20, max_per_image=7, clip=True),
    ],
)
def test_equals_the_slow_reference(activation: str, settings: Postprocess) -> None:
    net, out = network(activation), head(activation)
    for got, expected in zip(decode_batch(out, net, SIZES, settings), reference(out, net, settings), strict=True):
        assert len(got) == len(expected)
        np.testing.assert_allclose(got.confidence, [e[0] for e in expected], rtol=1e-6)
        assert got.labels.tolist() == [e[1] for e in expected]
        np.testing.assert_allclose(got.boxes_xyxy, [e[2] for e in expected], rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(got.probs, [e[3] for e in expected], rtol=1e-6)


@pytest.mark.parametrize("settings", [Postprocess(max_per_class=10), Postprocess(max_per_class=None, max_per_level=15)])
def test_selection_before_sorting_changes_nothing(settings: Postprocess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads that detect a lot take a shortcut; equal probabilities at its border must not be lost or doubled."""
    out = head(spread=0.5)
    out = out._replace(logits=out.logits.round(decimals=1))
    plain = decode_batch(out, network(), SIZES, settings)
    monkeypatch.setattr("al_lab.models.detectors.postprocess._DENSE", 0)
    for a, b in zip(plain, decode_batch(out, network(), SIZES, settings), strict=True):
        np.testing.assert_array_equal(a.boxes_xyxy, b.boxes_xyxy)
        np.testing.assert_array_equal(a.confidence, b.confidence)


def test_an_image_does_not_depend_on_its_batch() -> None:
    net, out = network(), head()
    alone = decode_batch(HeadOutput(out.logits[1:2], out.deltas[1:2], (), PRIORS, (60, 60), LEVELS), net, SIZES[1:2])[0]
    together = decode_batch(out, net, SIZES)[1]
    np.testing.assert_array_equal(alone.boxes_xyxy, together.boxes_xyxy)
    np.testing.assert_array_equal(alone.probs, together.probs)


def test_confidence_is_the_probability_of_the_label() -> None:
    for activation, first in (("softmax", 1), ("sigmoid", 0)):
        found = decode_batch(head(activation), network(activation), SIZES)[0]
        assert found.activation == activation
        np.testing.assert_array_equal(found.confidence, found.probs[np.arange(len(found)), found.labels + first])
        assert (np.diff(found.confidence) <= 0).all()


def test_nothing_above_the_threshold_gives_empty_detections() -> None:
    out = head()
    out.logits[1, :, 0] = 50.0
    found = decode_batch(out, network(), SIZES)
    assert [len(f) > 0 for f in found] == [True, False, True]
    assert found[1].probs.shape == (0, 4)
    out.logits[:, :, 0] = 50.0
    assert [len(f) for f in decode_batch(out, network(), SIZES)] == [0, 0, 0]


def test_padding_is_taken_out_of_kept_ratio_boxes() -> None:
    """A 100 x 200 image becomes 50 x 100 inside a 64 x 128 batch: half of its width is pixel 100."""
    net = network(resize="keep_ratio", pad_divisor=32)
    net.input_hw = (50, 100)
    prior = torch.tensor([[25 / 128, 25 / 64, 50 / 128, 50 / 64]])
    out = HeadOutput(torch.tensor([[[0.0, 5.0, 0.0, 0.0]]]), torch.zeros(1, 1, 4), (), prior, (64, 128), (1,))
    for valid in (None, torch.tensor([[50, 100]])):
        found = decode_batch(out, net, [(100, 200)], Postprocess(conf_min=0.5), valid_hw=valid)[0]
        np.testing.assert_allclose(found.boxes_xyxy, [[0, 0, 100, 100]], atol=1e-4)


def test_a_diverged_model_is_named() -> None:
    out = head()
    out.logits[0, 0, 0] = torch.nan
    with pytest.raises(LabError, match="finite predictions, got NaN or inf"):
        decode_batch(out, network(), SIZES)


@pytest.mark.parametrize("bad", [{"conf_min": 1.5}, {"nms_iou": 0.0}, {"max_per_class": 0}])
def test_senseless_settings_are_refused(bad: dict) -> None:
    with pytest.raises(ConfigError, match=f"detector.postprocess.{next(iter(bad))}: expected "):
        Postprocess(**bad)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_detection_names_its_anchor_and_counts_its_cluster(activation: str) -> None:
    out, net = head(activation), network(activation)
    settings = Postprocess(conf_min=0.2, max_per_class=None, max_per_image=9)
    plain, counted = (
        decode_batch(out, net, SIZES, dataclasses.replace(settings, count_suppressed=c)) for c in (False, True)
    )
    for b, (found, same) in enumerate(zip(plain, counted, strict=True)):
        assert found.pre_suppression_count is None and found.anchor is not None and found.anchor.dtype == np.int32
        np.testing.assert_array_equal(found.boxes_xyxy, same.boxes_xyxy)
        rows = net.probs(out.logits[b, torch.from_numpy(found.anchor).long()])
        np.testing.assert_allclose(found.probs, rows, rtol=1e-6)
        probs, boxes = net.probs(out.logits[b])[:, net.num_logits - 3 :], net.code.decode(out.deltas[b], PRIORS)
        size: dict[tuple[int, int], int] = {}
        for c in range(3):  # the greedy rule, one box after the other
            left = [p for p in probs[:, c].argsort(descending=True, stable=True).tolist() if probs[p, c] > 0.2]
            while left:
                overlap = torchvision.ops.box_iou(boxes[left[:1]], boxes[left])[0]
                gone = [p for p, o in zip(left, overlap.tolist(), strict=True) if o > settings.nms_iou]
                size[left[0], c] = len({left[0], *gone})
                left = [p for p in left[1:] if p not in gone]
        expected = [size[a, c] for a, c in zip(same.anchor.tolist(), same.labels.tolist(), strict=True)]
        assert same.pre_suppression_count.tolist() == expected and max(expected) > 1
        kept = same.above(float(same.confidence[3]))
        assert kept.pre_suppression_count.tolist() == expected[:4] and kept.anchor.tolist() == same.anchor[:4].tolist()
