"""What a purchase of squares is made of."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from al_lab.core.record.squares import squares_of_purchase
from al_lab.core.types import Candidates


@pytest.mark.parametrize(
    ("radius_px", "unit", "found"),
    [
        (1, "region", 2),
        (1, "pixel", 2),  # squares that are paid by the pixel
        (0, "pixel", None),  # single pixels
        (None, "image", None),
        (None, "region", 0),  # replayed: nobody knows the squares
    ],
)
def test_only_a_purchase_of_squares_has_squares(
    tmp_path: Path, radius_px: int | None, unit: str, found: int | None
) -> None:
    if radius_px is not None:
        Candidates.pixels("a", (4, 5), [6, 13], [0.2, 0.1], radius_px).save(tmp_path / "candidates.npz")
    squares = squares_of_purchase(SimpleNamespace(folder=tmp_path, allowance=SimpleNamespace(unit=unit)))
    assert (None if squares is None else len(squares)) == found


def test_whole_images_are_no_squares(tmp_path: Path) -> None:
    Candidates.images(["a", "b"], [0.2, 0.1]).save(tmp_path / "candidates.npz")
    assert squares_of_purchase(SimpleNamespace(folder=tmp_path, allowance=SimpleNamespace(unit="image"))) is None
