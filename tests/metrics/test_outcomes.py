import numpy as np
import pytest

from al_lab.core.record.predictions import save_predictions
from al_lab.core.types import Annotation, Detections
from al_lab.metrics.outcomes import Outcomes
from al_lab.metrics.resampling import resamples
from al_lab.metrics.voc_ap import NAMES, VocAP

CLASSES = ("a", "b", "c", "nowhere")


def boxes(rng, count):
    corner = rng.uniform(0, 60, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(15, 40, (count, 2))], 1).astype(np.float32)


def made(images=12, most=9, seed=0):
    """Draw objects, some difficult, and detections near some of them."""
    rng = np.random.default_rng(seed)
    truth, found = {}, {}
    for k in range(images):
        at = boxes(rng, int(rng.integers(0, 5)))
        labels = rng.integers(0, 3, len(at))
        truth[f"i{k}"] = Annotation.make(at, labels, difficult=rng.random(len(at)) < 0.2)
        more = boxes(rng, int(rng.integers(0, most)))
        near = np.concatenate([at + rng.normal(0, 2, at.shape).astype(np.float32), more])
        confidence = np.round(rng.random(len(near)), 1).astype(np.float32)  # with ties
        classes = np.concatenate([labels, rng.integers(0, 3, len(more))])
        found[f"i{k}"] = Detections(near, confidence, classes, confidence[:, None], "sigmoid")
    return found, truth


def test_metrics_come_out_of_it_as_they_were_measured_and_on_images_drawn_again():
    found, truth = made()
    outcomes, weights = Outcomes.of(found, truth, len(CLASSES)), resamples(len(truth), 50)
    measured, drawn = VocAP().compute(found, truth, CLASSES).scalars, VocAP().resampled(found, truth, CLASSES, weights)
    for name in NAMES:
        assert outcomes.average_precision()[name] == pytest.approx([measured[name]])
        assert outcomes.average_precision(weights)[name] == pytest.approx(drawn[name], nan_ok=True)


def test_what_is_saved_is_read_again_and_small(tmp_path):
    found, truth = made(images=300, most=200)
    outcomes = Outcomes.of(found, truth, len(CLASSES))
    outcomes.save(tmp_path / "outcomes.npz")
    again = Outcomes.load(tmp_path / "outcomes.npz")
    for name in vars(outcomes):
        assert np.array_equal(getattr(again, name), getattr(outcomes, name)), name
    save_predictions(tmp_path / "predictions.npz", found)
    assert (tmp_path / "outcomes.npz").stat().st_size < 0.25 * (tmp_path / "predictions.npz").stat().st_size
    outcomes.save(tmp_path / "same.npz")
    assert (tmp_path / "same.npz").read_bytes() == (tmp_path / "outcomes.npz").read_bytes()


def test_images_without_detections_or_objects():
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64),
                         np.zeros((0, 1), np.float32), "sigmoid")  # fmt: skip
    truth = {"a": Annotation.make([[0, 0, 9, 9]], [1]), "b": Annotation.make([], [])}
    outcomes = Outcomes.of({"a": nothing, "b": nothing}, truth, 2)
    assert outcomes.average_precision()["voc07_ap50"].tolist() == [0.0]
    assert np.isnan(outcomes.average_precision(np.asarray([[0, 2]]))["voc07_ap50"]).all()
    empty = Outcomes.of({"b": nothing}, {"b": truth["b"]}, 2)
    assert np.isnan(empty.average_precision()["voc_area_ap50"]).all()
