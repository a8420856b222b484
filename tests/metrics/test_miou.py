import numpy as np
import pytest

from al_lab.metrics.miou import confusion_matrix, miou_from_confusion


def test_the_fact_sheets_example() -> None:
    """Density Matters fact sheet, T10: IoU 1/3, 2/3, 2/3, mean .555556."""
    predicted, truth = np.array([0, 0, 1, 1, 2, 2, 2, 0]), np.array([0, 1, 1, 1, 2, 2, 0, 255], np.uint8)
    result = miou_from_confusion(confusion_matrix(truth, predicted, 3), ["a", "b", "c"])
    assert [r["ap"] for r in result.per_class] == pytest.approx([1 / 3, 2 / 3, 2 / 3])
    assert result.scalars == {"miou": pytest.approx(0.555556, abs=1e-6)}


def test_matrices_add_up_and_absent_classes_do_not_count() -> None:
    one = confusion_matrix(np.array([[0, 1]]), np.array([[0, 0]]), 3)
    both = one + confusion_matrix(np.array([1]), np.array([1]), 3)
    assert miou_from_confusion(both, list("abc")).scalars["miou"] == pytest.approx(0.5)
    assert np.isnan(miou_from_confusion(both, list("abc")).per_class[2]["ap"])


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"labels in 0\.\.2 or 255 in the truth, got 0\.\.7"):
        confusion_matrix(np.array([0, 7]), np.array([0, 0]), 3)
    with pytest.raises(ValueError, match=r"prediction of shape \(2,\)"):
        confusion_matrix(np.array([0, 1]), np.array([0]), 3)
