from dataclasses import replace

import numpy as np
from PIL import Image

from al_lab.core.pool import save_region
from al_lab.core.types import Region
from al_lab.reporting.figures.mosaic import class_colors, save_sheet, tiles
from al_lab.reporting.read.run_folder import Choice


def choice(path, boxes=((10, 20, 60, 80),), labels=("a",), **more):
    return Choice("x<1>", 0.5, path, np.asarray(boxes, float), labels, **more)


def picture(tmp_path, size=(400, 200)):
    Image.new("RGB", size, (10, 20, 30)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_boxes_are_drawn_where_they_are_after_scaling(tmp_path):
    tile = tiles([choice(picture(tmp_path))], {"a": "#ff0000"}, size_px=200)[0]
    assert tile.picture.size == (200, 100)
    red = np.argwhere((np.asarray(tile.picture) == (255, 0, 0)).all(-1))
    assert red.min(0).tolist() == [10, 5]
    assert red.max(0).tolist() == [40, 30]
    assert tile.data_uri.startswith("data:image/jpeg;base64,")
    assert tile.detail == "utility 0.5, 1 object"


def test_a_missing_or_broken_image_is_a_tile_that_says_so(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 nothing")
    made = tiles([choice(tmp_path / "gone.jpg"), choice(tmp_path / "broken.jpg"), choice(None)], {})
    assert [t.picture for t in made] == [None] * 3
    assert "gone.jpg" in made[0].problem
    assert "broken.jpg" in made[1].problem
    assert made[2].problem == "no image that may be shown"


def test_boxes_that_are_none_are_not_drawn(tmp_path):
    plain = tiles([choice(picture(tmp_path), (), ())], {})[0]
    odd = tiles([choice(picture(tmp_path), ((50, 50, 10, 10), (np.nan, 0, 1, 1)), ("a", "a"))], {})[0]
    assert (np.asarray(plain.picture) == np.asarray(odd.picture)).all()


def test_bought_pixels_are_colored(tmp_path):
    mask = np.zeros((200, 400), bool)
    mask[100, 200] = True
    save_region(tmp_path / "m.npz", Region.from_mask(mask))
    array = np.asarray(tiles([choice(picture(tmp_path), (), (), mask=tmp_path / "m.npz")], {}, size_px=200)[0].picture)
    assert np.argwhere((array == (238, 51, 119)).all(-1)).tolist() == [[50, 100]]


def test_many_choices_are_thinned_over_their_ranks(tmp_path):
    path = picture(tmp_path)
    many = [replace(choice(path), sample_id=str(k)) for k in range(100)]
    shown = [t.caption for t in tiles(many, {}, limit=5)]
    assert shown == ["0", "25", "50", "74", "99"]


def test_a_sheet_is_a_picture_and_a_pdf(tmp_path):
    made = tiles([choice(picture(tmp_path)), choice(tmp_path / "gone.jpg")], class_colors(["a"]))
    png, pdf = save_sheet(made, tmp_path / "figures", "sheet")
    assert Image.open(png).width == 208
    assert pdf.read_bytes().startswith(b"%PDF")
    assert save_sheet(made[1:], tmp_path, "none") == []
