"""What was left out is shown with its reason; a page that shows nothing says nothing."""

import json

import numpy as np
import pytest
from PIL import Image

from al_lab.reporting.read.run_folder import Run
from al_lab.reporting.sections.left_out import left_out_section


@pytest.fixture
def run(tmp_path):
    (tmp_path / "initial").mkdir()
    (tmp_path / "images").mkdir()
    return Run(tmp_path, config={}, ledger=[], metrics=[], image_folders=(tmp_path / "images",))


def written(run, rows, images=9):
    (run.path / "initial" / "left_out.json").write_text(json.dumps({"images": images, "left_out": rows}))
    return left_out_section(run)


def test_sheets_by_reason_with_what_decided(run):
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(run.path / "images" / "a.png")
    row = {"reason": "dark", "what": "95 % are below 3 of 255", "like": None, "for_good": True}
    section = written(
        run,
        [
            {"id": "a", "image": str(run.path / "images" / "a.png"), **row},
            {"id": "b", "image": str(run.path / "images" / "gone.png"), **row},
            {"id": "c", "image": "/etc/hosts", **row, "reason": "near_copies", "for_good": False},
            "no row",
        ],
    )
    dark, copies = section.sheets
    assert (dark.title, dark.total) == ("Dark: never bought", 2)
    assert [bool(t.picture) for t in dark.tiles] == [True, False] and dark.tiles[0].detail == row["what"]
    assert copies.title == "Near copies of an image that stays: not in the initial set"
    assert copies.tiles[0].picture is None
    assert section.tables[0].rows == [["dark", "never", 2], ["near_copies", "not first", 1]]


def test_many_are_counted_and_some_shown(run):
    rows = [{"id": f"{n}", "reason": "tiny", "what": "small", "for_good": True} for n in range(500)]
    (sheet,) = written(run, rows).sheets
    assert (len(sheet.tiles), sheet.total) == (24, 500)


def test_nothing_to_show(run):
    assert left_out_section(run).is_empty
    assert "All 9 images" in written(run, []).text
