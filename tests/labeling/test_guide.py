"""The page for whoever labels says what the model thinks, and nothing that nobody knows."""

from types import SimpleNamespace

import numpy as np

from al_lab.core.types import Detections, Query
from al_lab.labeling.guide import write_guide


def page(tmp_path, probs, activation="sigmoid"):
    found = Detections(
        np.zeros((1, 4), np.float32), np.array([0.5], np.float32), np.array([1]), np.array(probs), activation
    )
    item = SimpleNamespace(sample_id="a", file_name="a.jpg", query=Query("a"))
    write_guide(tmp_path, ("cat", "dog"), [item], {"a"}, {"a": found}, 0.1)
    return (tmp_path / "guide.html").read_text()


def test_the_second_class_is_named_where_it_is_known(tmp_path):
    assert "dog or cat 0.50" in page(tmp_path, [[0.1, 0.4, 0.5]], "softmax")
    assert "dog or cat 0.50" in page(tmp_path, [[0.4, 0.5]])
    assert "finds dog 0.50" in page(tmp_path, [[0.5]])  # kept without its distribution
