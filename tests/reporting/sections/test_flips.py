import numpy as np
import pytest

from al_lab.core.types import Candidates
from al_lab.reporting.pages.compare import build_comparison
from al_lab.reporting.read.find import read_run
from al_lab.reporting.sections.flips import flips_section
from tests.run_folders import ANYWHERE


@pytest.fixture
def folder(maker):
    return maker.run("al_ssl", cycles=1)


def change(folder, **info):
    """Write other readings for the candidates of cycle 0; a None takes one away."""
    path = folder / "cycle_00" / "candidates.npz"
    old = Candidates.load(path)
    kept = {k: v for k, v in {**old.info, **info}.items() if v is not None}
    Candidates.images(old.sample_ids, old.utility, **kept).save(path)
    return old


def test_images_without_a_counted_box_are_told_apart(folder):
    old = Candidates.load(folder / "cycle_00" / "candidates.npz")
    count = np.zeros(len(old), int)
    bought = {c.sample_id for c in read_run(folder).bought(0)}
    for k, i in enumerate(old.sample_ids):
        count[k] = i in bought
    count[next(k for k, i in enumerate(old.sample_ids) if i in bought)] = 0
    change(folder, count=count)
    picture = flips_section(read_run(folder)).pictures[0]
    assert (
        picture.caption
        == f"No box counted, so utility 0 and no point here – cycle 0: {len(old) - 19} of {len(old)} (1 of "
        f"them bought)."
    )
    points = [c.get_offsets() for c in picture.figure.axes[0].collections]
    assert [len(p) for p in points] == [0, 19]


def test_the_bought_pairs_disagree_most_and_say_how(folder):
    run = read_run(folder)
    old = run.candidates(0)
    bought = [i for i in old.sample_ids if i in {c.sample_id for c in run.bought(0)}]
    row = old.sample_ids.index(bought[3])
    other = next(k for k, i in enumerate(old.sample_ids) if i not in bought)
    inconsistency = old.info["inconsistency"].copy()
    inconsistency[[row, other]] = 8.0, 9.0
    probs, flipped, box, label = (old.info[k].copy() for k in ("box_probs", "box_flip_probs", "box", "box_label"))
    probs[row], flipped[row], box[row], label[row] = (
        [0.1, 0.05, 0.85, 0, 0],
        [0.6, 0.3, 0.08, 0.02, 0],
        [10, 20, 40, 50],
        1,
    )
    change(folder, inconsistency=inconsistency, box_probs=probs, box_flip_probs=flipped, box=box, box_label=label)
    sheet = flips_section(read_run(folder, ANYWHERE)).sheets[0]
    tile = sheet.tiles[0]
    assert (tile.caption, len(sheet.tiles), sheet.is_wide) == (bought[3], 6, True)
    assert tile.detail.splitlines()[0].startswith("J = 8 nats")
    assert tile.detail.splitlines()[1:] == [
        "image: square 0.85, background 0.10",
        "flipped: background 0.60, circle 0.30, square 0.08",
    ]
    array = np.asarray(tile.picture)
    width = (array.shape[1] - 6) // 2
    square = np.argwhere((array[:, :width] == (0xEE, 0x77, 0x33)).all(-1))
    white = np.argwhere((array[:, width + 6 :] == 255).all(-1))  # the flipped image's best class is background
    assert (square.min(0).tolist(), square.max(0).tolist()) == ([20, 10], [50, 40])
    assert (white.min(0).tolist(), white.max(0).tolist()) == ([20, width - 40], [50, width - 10])


def test_sigmoid_detectors_have_no_background_and_a_flipped_image_may_lack_the_box(folder):
    old = Candidates.load(folder / "cycle_00" / "candidates.npz")
    probs = np.tile([0.1, 0.9, 0.2, 0.3], (len(old), 1))
    change(folder, box_probs=probs, box_flip_probs=np.full_like(probs, np.nan), box_label=np.ones(len(old), int))
    tile = flips_section(read_run(folder, ANYWHERE)).sheets[0].tiles[0]
    assert tile.detail.splitlines()[1:] == ["image: square 0.90, cross & <bar> 0.30"]


def test_an_image_that_is_gone_is_said_with_what_is_known_of_it(folder):
    path = folder / "cycle_00" / "queries.json"
    path.write_text(path.read_text().replace(".jpg", ".gone"))
    tile = flips_section(read_run(folder, ANYWHERE)).sheets[0].tiles[0]
    assert tile.picture is None
    assert ".gone" in tile.problem
    assert tile.detail.startswith("J = ")


@pytest.mark.parametrize(
    "info", [{"entropy": None}, {"entropy": np.zeros((180, 2))}, {"inconsistency": np.full(180, np.inf)}]
)
def test_without_both_readings_there_is_no_section(folder, info):
    change(folder, **info)
    run = read_run(folder)
    assert flips_section(run).is_empty
    assert bool(run.notes) == (info.get("entropy", 0) is not None)  # never measured is no fault


def test_without_boxes_there_are_points_only(folder):
    change(folder, box=None)
    section = flips_section(read_run(folder))
    assert section.pictures
    assert not section.sheets


def test_the_last_query_of_each_line_is_compared(maker):
    runs = [
        read_run(p)
        for p in (
            maker.run("al_ssl", name="a", cycles=2),
            maker.run("al_ssl", name="b", cycles=2),
            maker.run("random", cycles=2),
        )
    ]
    section = next(s for s in build_comparison(runs).sections if s.key == "flips")
    assert [a.get_title(loc="left").replace("\u00a0", " ") for a in section.pictures[0].figure.axes] == [
        "al_ssl (a), cycle 1",
        "al_ssl (b), cycle 1",
    ]
    assert [s.is_open for s in section.sheets] == [True, False]
