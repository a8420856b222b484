"""Embeddings from a file, from a pretrained network and as means over objects; the rest is the learner's own."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from al_lab.config.embedding import EmbeddingSource
from al_lab.core.errors import ConfigError, DataError, WeightsError
from al_lab.core.types import Detections, ImageView
from al_lab.learners.foreign.embedded import Embedded, with_embedding
from tests.stubs import StubLearner

IDS = ("img/000", "img/001", "img/002")


@pytest.fixture
def dataset() -> Any:
    images = {i: np.full((20, 30, 3), 60 * n, np.uint8) for n, i in enumerate(IDS)}
    return SimpleNamespace(
        classes=("a", "b", "c"), pool_ids=IDS, image_path=lambda i: Path(f"{i}.jpg"), load_image=images.__getitem__
    )


def write(path: Path, names: tuple[str, ...]) -> dict[str, Any]:
    np.savez(path, images=np.array(names), embedding=np.arange(2 * len(names), dtype=np.float32).reshape(-1, 2))
    return {"embedding": str(path), "runtime": {"predict_batch": 2}}


def test_a_files_vectors_take_the_place_of_the_learners(tmp_path: Path, dataset: Any) -> None:
    config = write(tmp_path / "v.npz", ("img/002.jpg", "img/000.jpg", "img/001.jpg"))
    own = StubLearner(3)
    learner = with_embedding(own, config, dataset)
    views = list(learner.views(IDS, ("class_probs", "image_embedding")))
    assert [v.embedding.tolist() for v in views] == [[2, 3], [4, 5], [0, 1]]
    for view, before in zip(views, own.views(IDS, ("class_probs",)), strict=True):
        assert np.array_equal(view.detections.probs, before.detections.probs)
    with pytest.raises(DataError, match="expected a vector for each of 1 images, got none for 1, first 'img/009'"):
        list(learner.views(("img/009",), ("image_embedding",)))


def test_without_the_key_the_learner_is_as_it_was(dataset: Any) -> None:
    learner = StubLearner(3)
    assert with_embedding(learner, {"embedding": None}, dataset) is learner


def test_a_backbone_with_a_local_file(tmp_path: Path, dataset: Any) -> None:
    from torchvision.models import get_model

    torch.manual_seed(0)
    torch.save(get_model("squeezenet1_1").state_dict(), tmp_path / "w.pth")
    source = {"backbone": "squeezenet1_1", "weights": str(tmp_path / "w.pth"), "input_px": 64}
    learner = with_embedding(StubLearner(3), {"embedding": source, "runtime": {"predict_batch": 2}}, dataset)
    vectors = np.stack([v.embedding for v in learner.views(IDS, ("image_embedding",))])
    assert vectors.shape == (3, 512) and np.isfinite(vectors).all()
    assert np.ptp(vectors, 0).max() > 0


def test_the_mean_of_objects_is_weighted_by_confidence() -> None:
    class Seeing(StubLearner):
        provides = ("class_probs", "box_embedding")

        def views(self, ids: Any, needs: Any, options: Any = None) -> Any:
            assert set(needs) >= {"class_probs", "box_embedding"} and "image_embedding" not in needs
            boxes = np.array([[0, 0, 9, 9], [1, 1, 5, 5]], np.float32)
            found = Detections(boxes, np.array([0.6, 0.2], np.float32), np.zeros(2, int), np.zeros((2, 4), np.float32))
            yield ImageView("a", (9, 9), found, extras={"box_embedding": np.array([[4.0, 0], [0, 8]], np.float32)})
            yield ImageView("b", (9, 9), Detections.none(4), extras={"box_embedding": np.zeros((0, 2), np.float32)})

    views = list(Embedded(Seeing(3), None, 4).views(("a", "b"), ("image_embedding",)))
    np.testing.assert_allclose([v.embedding for v in views], [[3, 2], [0, 0]], rtol=1e-6)
    with pytest.raises(ConfigError, match="a detector that provides box_embedding"):
        Embedded(StubLearner(3), None, 4)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "expected a file, objects or a backbone, got 3"),
        ({"weights": "w.pth"}, "expected a file, objects or a backbone"),
        ({"backbone": "resnet18", "size": 64}, "embedding.size: expected a key of embedding, got 'size'"),
        ({"backbone": "resnet18", "input_px": 8}, "embedding.input_px"),
    ],
)
def test_what_is_no_source_is_refused(value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EmbeddingSource.read(value)


def test_the_forms_of_a_source() -> None:
    read = EmbeddingSource.read
    assert read(None) is None
    assert read("objects").kind == "objects"
    assert (read("a/b.npz").kind, read("a/b.npz").path) == ("file", "a/b.npz")
    assert (read("resnet18").kind, read("resnet18").backbone) == ("backbone", "resnet18")
    with pytest.raises(WeightsError, match="embedding: nowhere/b.npz: expected a file, got no such file"):
        read("nowhere/b.npz").check_file()
    read({"backbone": "resnet18", "weights": "torchvision://resnet18"}).check_file()
