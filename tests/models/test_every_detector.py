"""What every detector promises, checked for every yaml in conf/detector: a new one gets these tests without a line."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from al_lab.config.build import build
from al_lab.data.loading.batch import Batch
from al_lab.models.detectors.detector import Detector
from al_lab.objectives.supervised import Supervised

FOLDER = Path(__file__).parents[2] / "conf" / "detector"
QUICK = ("tiny",)


def leaf(name: str) -> dict[str, Any]:
    """A yaml with what its list of defaults puts under it."""
    node = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    for base in node.pop("defaults", []):
        node = leaf(base) | node
    return node


YAMLS = [
    pytest.param(p.stem, marks=() if p.stem in QUICK else pytest.mark.slow)
    for p in sorted(FOLDER.glob("*.yaml"))
    if "models" in leaf(p.stem)["_target_"]
]


@pytest.fixture(params=YAMLS)
def network(request: pytest.FixtureRequest) -> Detector:
    """A network as its yaml says, from random weights; where any size will do, a small one."""
    node = leaf(request.param)
    if ".transformers_" in node["_target_"]:
        pytest.importorskip("transformers")
    if "weights" in node:
        node["weights"] = None
    if node.get("resize") == "keep_ratio":
        node["input_hw"] = [256, 256] if request.param == "dino" else [96, 128]  # more places than its 900 queries
    torch.manual_seed(0)
    return build(node, num_classes=3)


def batch(network: Detector) -> Batch:
    height, width = network.input_hw
    images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    boxes = torch.tensor([[[0.1, 0.1, 0.6, 0.7], [0.5, 0.4, 0.9, 0.9]], [[0.2, 0.2, 0.8, 0.6], [0.0, 0, 0, 0]]])
    boxes = boxes * torch.tensor([width, height, width, height])
    sizes, valid = torch.tensor([[height, width], [2 * height, 2 * width]]), torch.tensor([[height, width]] * 2)
    return Batch(images, ["a", "b"], boxes, torch.tensor([[0, 1], [2, 0]]), torch.tensor([1, 1]), sizes, valid)


def look(network: Detector, data: Batch) -> tuple[Any, list[Any]]:
    with torch.inference_mode():
        seen = network.eval().look(data.images, data.valid_hw)
        return seen, network.detections(seen, [tuple(hw) for hw in data.sizes_hw.tolist()], data.valid_hw)


def test_it_trains_and_gives_what_it_says(network: Detector) -> None:
    data, objective = batch(network), Supervised()
    objective.attach(network)
    parts = objective(network.train(), data, 0, 10)
    parts["loss"].backward()
    assert bool(torch.isfinite(parts["loss"])) and parts["loss"] > 0
    trained = [p for p in network.parameters() if p.requires_grad]
    assert sum(p.grad is not None for p in trained) > 0.9 * len(trained)
    seen, found = look(network, data)
    vectors = network.embedding(seen.features)
    assert vectors.shape[0] == 2 and vectors.dtype == torch.float32 and bool(torch.isfinite(vectors).all())
    sizes = [tuple(hw) for hw in data.sizes_hw.tolist()]
    of_boxes = network.box_embeddings(seen, found, sizes, torch.ones(2, 2))
    for detections, rows in zip(found, of_boxes, strict=True):
        assert len(rows) == len(detections)
        assert detections.probs.shape == (len(detections), network.num_logits)
        assert detections.activation == network.activation
        assert (detections.confidence[:-1] >= detections.confidence[1:]).all()
    with torch.inference_mode():
        flipped = network.look_flipped(data.images, data.valid_hw)[1]
        network.detections(flipped, sizes, data.valid_hw)


def test_an_image_without_boxes_is_learned_from(network: Detector) -> None:
    data = batch(network)
    nothing = Batch(**{**vars(data), "boxes": torch.zeros(2, 0, 4), "labels": torch.zeros(2, 0, dtype=torch.long)})
    loss = Supervised()(network.train(), nothing, 0, 10)["loss"]
    assert bool(torch.isfinite(loss)) and loss.requires_grad


def test_what_is_saved_is_the_whole_of_it(network: Detector) -> None:
    data = batch(network)
    state = {k: v.clone() for k, v in network.state_dict().items()}
    before = look(network, data)[1]
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.add_(0.01)
    network.load_state_dict(state)
    for a, b in zip(before, look(network, data)[1], strict=True):
        assert (a.probs == b.probs).all() and (a.boxes_xyxy == b.boxes_xyxy).all()
