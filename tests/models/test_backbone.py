"""Embeddings of images by a torchvision classifier without its last layer."""

import numpy as np
import pytest
import torch
from torchvision.models import get_model

from al_lab.core.errors import ConfigError, WeightsError
from al_lab.models.backbone import Backbone


@pytest.mark.parametrize(("name", "dim"), [("squeezenet1_1", 512), ("resnet18", 512)])
def test_embeddings_do_not_depend_on_the_batch(tmp_path, name, dim):
    torch.manual_seed(0)
    path = tmp_path / "weights.pth"
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in get_model(name).state_dict().items()}, path)
    backbone = Backbone(name, str(path), 64)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (int(h), 90, 3), np.uint8) for h in (50, 70, 90)]
    together = backbone(images)
    assert together.shape == (3, dim) and together.dtype == np.float32
    np.testing.assert_allclose(together, np.concatenate([backbone([i]) for i in images]), rtol=1e-4, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-4


def test_wrong_names_and_files(tmp_path):
    with pytest.raises(ConfigError, match=r"budget.cold_start.backbone: .* did you mean 'resnet50'"):
        Backbone("resnet5O", None, 64)
    with pytest.raises(WeightsError, match="no such file"):
        Backbone("squeezenet1_1", str(tmp_path / "none.pth"), 64)
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="use weights made for this backbone"):
        Backbone("squeezenet1_1", str(tmp_path / "other.pth"), 64)
