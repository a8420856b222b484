"""Metrics of pixels and of borders together: over images, over images drawn again, and through a file."""

import numpy as np
import pytest

from al_lab.core.errors import ConfigError, DataError
from al_lab.metrics.segmentation import NAMES, Measured, check_metrics, resampled_segmentation, segmentation_results
from al_lab.metrics.surfaces import boundary_counts, hausdorff95

CLASSES, ASKED = ["sky", "road", "car"], ("miou", "boundary_iou", "dice", "hd95")


def images(num: int = 5) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    out = []
    for _ in range(num):
        truth, predicted = np.zeros((20, 24), np.uint8), np.zeros((20, 24), np.uint8)
        for label in (truth, predicted):
            y, x = rng.integers(3, 14, 2)
            label[y : y + 5, x : x + 6] = 1
        truth[0, :5] = 255
        out.append((truth, predicted))
    out[-1][0][10:12, 2:4] = 2  # a car that nobody sees, in one image
    return out


def test_means_over_images_and_classes(tmp_path):
    shown = images()
    parts = [Measured.of_image(t, p, 3, ASKED) for t, p in shown]
    Measured.joined(parts[:2]).save(tmp_path / "a.npz")
    whole = Measured.joined([Measured.load(tmp_path / "a.npz"), Measured.joined(parts[2:])])
    results = segmentation_results(whole, CLASSES, ASKED)
    assert [next(iter(r.scalars)) for r in results] == list(ASKED)
    boundary = sum(boundary_counts(t, p, 3, 255) for t, p in shown)
    assert results[1].scalars["boundary_iou"] == pytest.approx((boundary[:, 0] / boundary[:, 1]).mean())
    far = np.array([hausdorff95(t, p, 3, 255) for t, p in shown])
    expected = [far[:, 0].mean(), far[:, 1].mean(), np.hypot(20, 24)]  # of the car: the one image that has it
    assert [row["ap"] for row in results[3].per_class] == pytest.approx(expected)
    assert results[3].scalars["hd95"] == pytest.approx(np.mean(expected))
    # only what was asked for is measured
    assert Measured.of_image(*shown[0], 3, ["miou"]).hd95 is None


def test_images_drawn_again_are_those_images_several_times():
    parts = [Measured.of_image(t, p, 3, ASKED) for t, p in images()]
    weights = np.array([[1, 1, 1, 1, 1], [0, 3, 0, 0, 2], [5, 0, 0, 0, 0]])
    values = resampled_segmentation(Measured.joined(parts), CLASSES, ASKED, weights)
    for draw, times in enumerate(weights[:2]):
        drawn = Measured.joined([part for part, n in zip(parts, times, strict=True) for _ in range(n)])
        for result in segmentation_results(drawn, CLASSES, ASKED):
            for name, scalar in result.scalars.items():
                assert values[name][draw] == pytest.approx(scalar), name


def test_what_can_not_be_measured_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'boundary_iou'"):
        check_metrics(["boundary_io"], CLASSES)
    with pytest.raises(ConfigError, match="expected a metric first that is larger for a better model"):
        check_metrics(["hd95", "miou"], CLASSES)
    check_metrics([name for name in NAMES if name != "miou13"], CLASSES)
    void = Measured.of_image(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8), 2, ["boundary_iou"])
    with pytest.raises(DataError, match="boundary_iou: expected at least one test pixel with a class"):
        segmentation_results(void, ["a", "b"], ["boundary_iou"])
