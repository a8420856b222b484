"""What a choice's page draws."""

import numpy as np
import pytest

from al_lab.core.types import Detections
from al_lab.selection.page import worth_drawing


def found(*confidence: float) -> Detections:
    num = len(confidence)
    shape = (np.zeros((num, 4), np.float32), np.array(confidence, np.float32), np.zeros(num, np.int64))
    return Detections(*shape, np.zeros((num, 2), np.float32), "sigmoid")


@pytest.mark.parametrize(
    ("confidence", "drawn"),
    [
        ((0.9, 0.1, 0.5), (0.9, 0.5)),
        ((0.1, 0.2, 0.05, 0.15), (0.2, 0.15, 0.1)),
        ((0.9,) * 50 + (0.1,) * 500, (0.9,) * 20),
        ((), ()),
    ],
    ids=["weak ones are left out", "three where all are weak", "twenty at most", "none"],
)
def test_a_page_draws_what_a_person_can_read(confidence: tuple[float, ...], drawn: tuple[float, ...]) -> None:
    assert worth_drawing(found(*confidence), 0.3).confidence == pytest.approx(drawn)
