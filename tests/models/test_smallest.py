"""An input that is too small for a network: refused when it is built, with a size that works."""

import pytest
import torch
from torch import Tensor, nn

from al_lab.core.errors import ConfigError
from al_lab.models.adapters.torchvision_detector import TorchvisionDetector
from al_lab.models.smallest import TooFewPlacesError, check_input, explained, ghost


def places(images: Tensor) -> None:
    """A network of stride 32 that chooses 50 places: 7 x 8 are enough, and 8 x 8 is the least square of them."""
    height, width = (n // 32 for n in images.shape[2:])
    if height * width < 50:
        raise TooFewPlacesError(f"whose maps have {height * width} places, fewer than the network's 50 queries")


def test_the_sentence_names_the_smallest_square() -> None:
    check_input(places, (224, 256))
    with pytest.raises(ConfigError, match=r"256 x 256 pixels, got 96 x 160, whose maps have 15 places.*=\[256,256\]"):
        check_input(places, (96, 160))


def test_a_batch_too_narrow_is_said_and_other_errors_pass() -> None:
    with pytest.raises(ConfigError, match="got 32 x 640"), explained(lambda: places, torch.empty(2, 3, 32, 640)):
        raise RuntimeError("selected index k out of range")
    with pytest.raises(RuntimeError, match="another"), explained(lambda: places, torch.empty(2, 3, 256, 256)):
        raise RuntimeError("another")


def test_a_ghost_computes_shapes_of_an_untouched_network() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4))
    before = {k: v.clone() for k, v in network.state_dict().items()}
    assert ghost(network)(torch.empty(1, 3, 9, 9, device="meta")).shape == (1, 4, 4, 4)
    assert network.training and all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


@pytest.mark.slow
def test_torchvisions_ssd_names_the_size_of_its_last_map() -> None:
    with pytest.raises(ConfigError, match="got 64 x 64, whose maps get smaller than a convolution"):
        TorchvisionDetector(3, "ssd300_vgg16", (64, 64))
