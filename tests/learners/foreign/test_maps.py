"""Segmenters that are trained elsewhere: maps of pixels, handed in or written by a command."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from al_lab.campaign.loop import run_campaign
from al_lab.core.errors import DataError, ResumeError
from al_lab.learners.foreign.asked import asked_of
from al_lab.learners.foreign.maps import MapReader, read_probabilities
from tests.stubs import FakeSegmenter, Frames, quicken, stub_config

MARGIN = {"_target_": "al_lab.strategies.general.margin.Margin"}
RANDOM = {"_target_": "al_lab.strategies.general.random.Random"}
CORE_SET = {"_target_": "al_lab.strategies.general.core_set.CoreSet"}
SEGMENTER = "al_lab.learners.foreign.predictions.PredictionsSegmenter"
FRAMES = {"_target_": "tests.stubs.Frames"}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    quicken(monkeypatch)


def answer(folder: Path, kind: str = "probabilities") -> None:
    """Train on the label maps of the exchange folder, and write a map of each image that is asked about."""
    learner = FakeSegmenter(3)
    learner.state = "".join(str(np.array(Image.open(p)).sum()) for p in sorted((folder / "train").rglob("*.png"))
                            if "labels" in p.parts)  # fmt: skip
    names = [Path(line).stem for line in (folder / "predict" / "images.txt").read_text().splitlines()]
    views = [next(learner.views([name.replace("__", "/")], ())) for name in names]
    for name, view in zip(names, views, strict=True):
        place = folder / "predictions" / name
        if kind == "labels":
            Image.fromarray(view.probs.argmax(0).byte().numpy()).save(place.with_suffix(".png"))
        else:
            np.save(place.with_suffix(".npy"), view.probs.half().numpy())
    vectors = np.stack([view.embedding for view in views])
    np.savez(folder / "predictions" / "embeddings.npz", images=np.array(names), embedding=vectors)


@pytest.mark.parametrize(
    ("strategy", "unit", "settings"),
    [
        (MARGIN, "pixel", {}),
        (RANDOM, "image", {"maps": "labels"}),
        (CORE_SET, "image", {"maps": "labels", "embeddings": True}),
    ],
    ids=["pixels by margin", "images at random", "images by core-set"],
)
def test_maps_that_are_handed_in(strategy, unit, settings, tmp_path):
    segmenter = {"_target_": SEGMENTER, **settings}
    config = stub_config(strategy, dense=True, cycles=1, unit=unit, segmenter=segmenter, dataset=FRAMES)
    for cycle in range(2):
        outcome = run_campaign(config, tmp_path / "run")
        assert outcome["status"] == "awaiting", outcome
        folder = tmp_path / "run" / "to_train" / f"cycle_0{cycle}"
        labels = [np.array(Image.open(p)) for p in (folder / "train" / "train" / "labels").rglob("*.png")]
        assert labels and any((m == 255).any() for m in labels) == (unit == "pixel" and cycle == 1)
        answer(folder, settings.get("maps", "probabilities"))
    assert run_campaign(config, tmp_path / "run")["status"] == "finished"
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2 and all("miou" in row for row in rows)


PREDICT = """
import sys, pathlib, numpy as np
state, out = pathlib.Path(sys.argv[2]).read_text(), pathlib.Path(sys.argv[3])
for line in pathlib.Path(sys.argv[1]).read_text().splitlines():
    p = np.random.default_rng(len(state + line)).dirichlet(np.ones(3), (6, 8)).transpose(2, 0, 1)
    np.savez(out / pathlib.Path(line).with_suffix('.npz').name, probs=(255 * p).round().astype('uint8'))
"""


def test_maps_that_a_command_writes(tmp_path):
    (tmp_path / "predict.py").write_text(PREDICT)
    segmenter = {
        "_target_": "al_lab.learners.foreign.command.CommandSegmenter",
        "train": "sh -c 'ls $0 > $1' {labels} {checkpoint}",
        "predict": f"{sys.executable} {tmp_path}/predict.py {{images}} {{checkpoint}} {{out}}",
        "device": "cpu",
    }
    config = stub_config(MARGIN, dense=True, cycles=1, segmenter=segmenter, dataset=FRAMES)
    config["runtime"]["predict_batch"] = 8
    assert run_campaign(config, tmp_path / "run")["status"] == "finished"
    assert not [p for p in (tmp_path / "run").rglob("predict_*") if p.is_dir()]  # read, and deleted


def test_what_is_no_map_is_named(tmp_path):
    whole = np.full((3, 4, 5), 1 / 3)
    for value, sentence in (
        (whole[:2], r"expected \(3, height, width\), classes first, got float64 of shape \(2, 4, 5\)"),
        (whole * 2, "expected probabilities that sum to 1 over the classes, got .*apply the softmax first"),
        (np.full((3, 4, 5), np.nan), "expected probabilities that sum to 1"),
    ):
        np.save(tmp_path / "m.npy", value)
        with pytest.raises(DataError, match=sentence):
            read_probabilities(tmp_path / "m.npy", 3)
    (tmp_path / "m.npy").write_bytes((tmp_path / "m.npy").read_bytes()[:90])
    with pytest.raises(DataError, match="got a damaged one"):
        read_probabilities(tmp_path / "m.npy", 3)


def test_every_image_has_a_map_of_its_size_and_a_changed_one_is_not_read(tmp_path):
    dataset, ids = Frames(), ("frame/0", "frame/1")
    asked, reader = asked_of(tmp_path / "asked", dataset, ids), MapReader(dataset, "labels", False)
    (place := tmp_path / "maps").mkdir()
    assert reader.read(place, asked, True) is None
    Image.fromarray(np.zeros((24, 32), np.uint8)).save(place / "frame__0.png")
    with pytest.raises(DataError, match=r"got none for 1 of 2 images, the first frame__1.png"):
        reader.read(place, asked, True)
    Image.fromarray(np.full((24, 31), 3, np.uint8)).save(place / "frame__1.png")
    with pytest.raises(DataError, match="expected a map of the image's size, 24 x 32"):
        reader.read(place, asked, True)
    Image.fromarray(np.full((24, 32), 3, np.uint8)).save(place / "frame__1.png")
    with pytest.raises(DataError, match=r"expected class numbers 0..2 in every pixel, got 3"):
        reader.read(place, asked, True)
    Image.fromarray(np.ones((24, 32), np.uint8)).save(place / "frame__1.png")
    found = reader.read(place, asked, True)
    found.save(tmp_path / "model", ids)
    read, of = reader.open(tmp_path / "model")
    assert of == set(ids) and [int(v.probs.argmax(0).max()) for v in read.views(ids, ("dense_probs",))] == [0, 1]
    Image.fromarray(np.zeros((24, 32), np.uint8)).save(place / "frame__1.png")
    with pytest.raises(ResumeError, match="got another file; restore it"):
        list(read.views(ids, ("dense_probs",)))
