"""How unsure a detector is of an image: by hand, and which images entropy would have chosen."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from al_lab.core.pool import Pool
from al_lab.core.types import Candidates, Detections, Query
from al_lab.stages.entropies import image_entropies, write_most_unsure


def found(probs: list[list[float]], activation: str = "softmax") -> Detections:
    p = np.asarray(probs, np.float32)
    classes = p[:, 1:] if activation == "softmax" else p
    box = np.tile(np.array([0, 0, 9, 9], np.float32), (len(p), 1))
    return Detections(box, classes.max(1), classes.argmax(1).astype(np.int64), p, activation=activation)


@pytest.mark.parametrize(
    ("detections", "mean", "total"),
    [
        # the third box is below .3; ln 2, and .5 ln 2 + .5 ln 4
        (found([[0, 0.5, 0.5], [0.25, 0.5, 0.25], [0.8, 0.1, 0.1]]), 0.866434, 1.732868),
        (found([[0.5, 0.1], [0.3, 0.1], [0.2, 0.1]], "sigmoid"), 0.652006, 1.304011),
        (Detections.none(3), 0.0, 0.0),
    ],
)
def test_mean_and_sum_over_the_boxes_that_count(detections: Detections, mean: float, total: float) -> None:
    values = image_entropies(detections)
    assert {k: v.item() for k, v in values.items()} == {
        "mean_entropy": pytest.approx(mean, abs=1e-5),
        "sum_entropy": pytest.approx(total, abs=1e-5),
    }


def test_the_most_unsure_images_that_could_be_bought_are_named(tmp_path: Path) -> None:
    ids = tuple("abcdefg")
    ctx = SimpleNamespace(
        pool=Pool(ids).acquire([Query("g")], -1),
        cycle_dir=tmp_path,
        dataset=SimpleNamespace(image_path=lambda i: Path("images") / i),
    )
    mean, total = np.array([1.0, 2, 3, 4, 5, 6, 9]), np.array([6.0, 5, 4, 3, 2, 1, 9])
    write_most_unsure(ctx, Candidates.images(ids, np.zeros(7)))
    assert not list(tmp_path.iterdir())  # nobody looked
    write_most_unsure(ctx, Candidates.images(ids, np.zeros(7), mean_entropy=mean, sum_entropy=total))
    largest = json.loads((tmp_path / "entropies.json").read_text())["largest"]
    assert [[row["id"] for row in largest[name]] for name in ("mean_entropy", "sum_entropy")] == [
        ["f", "e", "d", "c"],
        ["a", "b", "c", "d"],
    ]
    assert largest["sum_entropy"][0]["image"] == "images/a"
