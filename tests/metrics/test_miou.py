import numpy as np
import pytest

from al_lab.core.errors import ConfigError, DataError
from al_lab.data.datasets.domains import SHARED_16
from al_lab.metrics.miou import NAMES, Counts, check_metrics, confusion_matrix, miou_from_confusion, resampled_miou


def test_the_fact_sheets_example() -> None:
    """Density Matters fact sheet, T10: IoU 1/3, 2/3, 2/3, mean .555556."""
    predicted, truth = np.array([0, 0, 1, 1, 2, 2, 2, 0]), np.array([0, 1, 1, 1, 2, 2, 0, 255], np.uint8)
    (result,) = miou_from_confusion(confusion_matrix(truth, predicted, 3), ["a", "b", "c"])
    assert [r["ap"] for r in result.per_class] == pytest.approx([1 / 3, 2 / 3, 2 / 3])
    assert result.scalars == {"miou": pytest.approx(0.555556, abs=1e-6)}


def test_matrices_add_up_and_absent_classes_do_not_count() -> None:
    one = confusion_matrix(np.array([[0, 1]]), np.array([[0, 0]]), 3)
    both = one + confusion_matrix(np.array([1]), np.array([1]), 3)
    (result,) = miou_from_confusion(both, list("abc"))
    assert result.scalars["miou"] == pytest.approx(0.5)
    assert np.isnan(result.per_class[2]["ap"])


def test_dice_and_the_foreground() -> None:
    """Background 5 right of 6, foreground 2 right of 4, 1 + 2 wrong: 2 TP / (2 TP + FP + FN)."""
    truth, predicted = np.array([0] * 6 + [1] * 4 + [255]), np.array([0] * 5 + [1] + [1] * 2 + [0] * 2 + [1])
    found = miou_from_confusion(confusion_matrix(truth, predicted, 2), ["background", "crack"], NAMES[2:])
    by_name = {name: value for result in found for name, value in result.scalars.items()}
    assert by_name == pytest.approx({"foreground_iou": 2 / 5, "dice": (10 / 13 + 4 / 7) / 2, "foreground_dice": 4 / 7})
    assert [row["class"] for row in found[-1].per_class] == ["crack"]


def test_miou13_leaves_out_wall_fence_and_pole() -> None:
    confusion = np.diag(np.full(16, 10))
    confusion[3:6] = 0
    confusion[3:6, 0] = 10  # wall, fence and pole are all taken for road
    both = miou_from_confusion(confusion, SHARED_16, ["miou", "miou13"])
    assert [r.scalars for r in both] == [
        {"miou": pytest.approx((12 + 0.25) / 16)},
        {"miou13": pytest.approx((12 + 0.25) / 13)},
    ]
    assert [row["class"] for row in both[1].per_class] == [c for c in SHARED_16 if c not in ("wall", "fence", "pole")]
    assert {row["metric"] for row in both[1].per_class} == {"miou13"}


@pytest.mark.parametrize(
    ("names", "message"),
    [(["miou", "miou13"], "expected the 16 classes of SYNTHIA for miou13"), (["miou_13"], "did you mean 'miou13'")],
)
def test_metrics_the_classes_do_not_have_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_metrics(names, ["sky", "road"])


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"labels in 0\.\.2 or 255 in the truth, got 0\.\.7"):
        confusion_matrix(np.array([0, 7]), np.array([0, 0]), 3)
    with pytest.raises(ValueError, match=r"prediction of shape \(2,\)"):
        confusion_matrix(np.array([0, 1]), np.array([0]), 3)


def test_a_mean_of_nothing_is_no_number() -> None:
    with pytest.raises(DataError, match="miou: expected at least one test pixel with a class, got none"):
        miou_from_confusion(np.zeros((2, 2), np.int64), ["wall", "crack"])
    with pytest.raises(ValueError, match=r"labels in 0\.\.2 or 255 in the truth, got 0\.\.3"):
        confusion_matrix(np.array([0, 3]), np.array([0, 0]), 3)
    for wrong in (3, -1):
        with pytest.raises(ValueError, match="prediction"):
            confusion_matrix(np.array([0, 1]), np.array([0, wrong]), 3)
    assert confusion_matrix(np.array([2, 255]), np.array([2, 0]), 3).tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]


def test_images_drawn_again_are_those_images_several_times() -> None:
    rng = np.random.default_rng(0)
    matrices = rng.integers(0, 50, (6, 16, 16)) * (rng.random((6, 16, 16)) < 0.2)
    matrices[:, 4] = 0  # a class that never occurs
    parts = [Counts.of(matrices[:2]), Counts.of(matrices[2:])]
    counts = Counts.joined(parts)
    assert len(counts) == 6 and (counts.total(16) == matrices.sum(0)).all()
    weights = np.stack([np.ones(6, int), np.array([0, 3, 1, 0, 0, 2]), np.zeros(6, int)])
    values = resampled_miou(counts, SHARED_16, NAMES, weights)
    for draw in range(2):
        drawn = (weights[draw][:, None, None] * matrices).sum(0)
        for result in miou_from_confusion(drawn, SHARED_16, NAMES):
            for name, scalar in result.scalars.items():
                assert values[name][draw] == pytest.approx(scalar)
    assert np.isnan(values["miou"][2])
