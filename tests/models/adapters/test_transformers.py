"""Detectors of transformers behind our interface: their own losses and detections, and clear refusals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from al_lab.core.errors import ConfigError, WeightsError
from al_lab.data.loading.batch import Batch

pytest.importorskip("transformers")
from al_lab.models.adapters.transformers_detector import TransformersDetector  # noqa: E402

pytestmark = pytest.mark.slow  # the package alone takes seconds to import
RESNET = {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 64, 128], "embedding_size": 16, "layer_type": "basic"}
LAST_THREE = ["stage2", "stage3", "stage4"]
SMALL = {"d_model": 32, "num_queries": 20, "decoder_layers": 2, "decoder_ffn_dim": 64, "decoder_attention_heads": 2}
CONFIGS: dict[str, dict[str, Any]] = {
    "rt_detr": {
        "backbone_config": {"model_type": "rt_detr_resnet", **RESNET, "out_features": LAST_THREE},
        "freeze_backbone_batch_norms": False,
        "encoder_in_channels": [32, 64, 128],
        "encoder_hidden_dim": 32,
        "encoder_ffn_dim": 64,
        "encoder_attention_heads": 2,
        "decoder_in_channels": [32, 32, 32],
        "num_denoising": 10,
        **SMALL,
    },
    "detr": {
        "backbone_config": {"model_type": "resnet", **RESNET, "out_features": ["stage4"]},
        "encoder_layers": 1,
        "encoder_ffn_dim": 64,
        "encoder_attention_heads": 2,
        **SMALL,
    },
}
SIZES = [(100, 120), (96, 128)]
VALID = torch.tensor([[96, 128]] * 2)


def build(model: str, num_classes: int = 3, **options: Any) -> TransformersDetector:
    torch.manual_seed(0)
    return TransformersDetector(num_classes, model, (96, 128), config=CONFIGS[model], **options)


def batch() -> Batch:
    images = torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(7))
    boxes = torch.tensor([[[5.0, 5, 60, 70], [20, 30, 50, 60]], [[10, 10, 40, 40], [0, 0, 0, 0]]])
    kind = torch.tensor([1, 1])
    return Batch(images, ["a", "b"], boxes, torch.tensor([[0, 1], [2, 0]]), kind, torch.tensor(SIZES), VALID)


@pytest.mark.parametrize("model", CONFIGS)
def test_it_learns_and_finds_what_transformers_finds(model: str) -> None:
    network, data = build(model).train(), batch()
    parts = network.loss(data)
    parts["loss"].backward()
    assert bool(torch.isfinite(parts["loss"])) and len(parts) > 3
    assert sum(p.grad is not None for p in network.parameters()) > 0.8 * len(list(network.parameters()))
    network.eval()
    with torch.inference_mode():
        seen = network.look(data.images, VALID)
        found = network.detections(seen, SIZES, VALID)
        out = network.network(data.images)
    logits, is_softmax = out.logits, network.activation == "softmax"
    scores = logits.softmax(-1)[..., :-1].max(-1).values if is_softmax else logits.sigmoid().flatten(1)
    for mine, theirs in zip(found, scores, strict=True):
        best = theirs.sort(descending=True).values.numpy()[: len(mine)]
        assert len(mine) > 5
        np.testing.assert_allclose(mine.confidence, best, rtol=1e-5)
        assert mine.probs.shape[1] == 3 + is_softmax
    assert network.embedding(seen.features).shape == (2, 128)
    assert network.box_embeddings(seen, found, SIZES, torch.ones(2, 2))[0].shape == (len(found[0]), 128)


def test_weights_come_from_what_transformers_saves(tmp_path: Path) -> None:
    known = build("rt_detr")
    known.network.save_pretrained(tmp_path / "saved")
    other = build("rt_detr", num_classes=5, weights=str(tmp_path / "saved" / "model.safetensors"))
    a, b = known.network.state_dict(), other.network.state_dict()
    same = [k for k in a if a[k].shape == b[k].shape]
    assert all(torch.equal(a[k], b[k]) for k in same)
    assert 0 < len(a) - len(same) < 10
    with pytest.raises(WeightsError, match="a checkpoint of this RTDetrForObjectDetection"):
        changed = CONFIGS["rt_detr"] | {"decoder_ffn_dim": 48}
        TransformersDetector(3, "rt_detr", (96, 128), config=changed, weights=str(tmp_path / "saved/model.safetensors"))
    with pytest.raises(WeightsError, match="got no such file"):
        build("rt_detr", weights=str(tmp_path / "saved"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "rt_dtr"}, "an object detector of transformers, got 'rt_dtr'; did you mean 'rt_detr'"),
        (
            {"model": "rt_detr", "config": {"num_querys": 4}},
            "detector.config: expected a key of rt_detr's configuration",
        ),
    ],
)
def test_refusals(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TransformersDetector(3, input_hw=(96, 128), **arguments)


def test_more_queries_than_places_are_refused() -> None:
    with pytest.raises(ConfigError, match="got 96 x 128, whose maps have fewer places than the network has queries"):
        TransformersDetector(3, "rt_detr", (96, 128), config=CONFIGS["rt_detr"] | {"num_queries": 300})
