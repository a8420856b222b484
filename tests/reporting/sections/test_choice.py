"""The first query beside what entropy would have bought."""

import json

import numpy as np
import pytest

from al_lab.core.types import Candidates
from al_lab.reporting.read.find import read_run
from al_lab.reporting.sections.mgral.choice import choice_section
from tests.run_folders import ANYWHERE


@pytest.fixture
def folder(maker):
    """A run whose candidates have entropies: the first bought image the largest mean, every other one its place."""
    folder = maker.run("entropy", cycles=1)
    run, path = read_run(folder), folder / "cycle_00" / "candidates.npz"
    old, bought = Candidates.load(path), run.bought(0)
    mean = np.linspace(0.1, 1, len(old))
    mean[old.sample_ids.index(bought[0].sample_id)] = 2.5
    Candidates.images(old.sample_ids, old.utility, mean_entropy=mean, sum_entropy=2 * mean).save(path)
    image = json.loads((folder / "cycle_00" / "queries.json").read_text())["queries"][0]["image"]
    rows = [{"id": bought[0].sample_id, "image": image}, {"id": 7}]
    facts = {"min_confidence": 0.3, "largest": {"mean_entropy": rows, "sum_entropy": "nothing"}}
    (folder / "cycle_00" / "entropies.json").write_text(json.dumps(facts))
    return folder


def test_pictures_stand_beside_their_entropies(folder):
    run = read_run(folder, ANYWHERE)
    section, bought = choice_section(run), run.bought(0)
    own, mean = section.sheets  # what of the file is no list of images is left out
    assert (own.title, len(own.tiles), own.total) == ("entropy: bought first", 4, len(bought))
    assert [t.choice.sample_id for t in mean.tiles] == [bought[0].sample_id]
    assert own.tiles[0].detail == mean.tiles[0].detail == "mean 2.50, sum 5.00"
    assert "confidence 0.3 and more" in section.text and "MIAL" not in section.text
    (table,) = section.tables
    assert [row[1] for row in table.rows] == [len(bought), len(run.candidates(0)) - len(bought)]
    assert table.rows[0][3] == pytest.approx(2 * table.rows[0][2])
    points = [c.get_offsets() for c in section.pictures[0].figure.axes[0].collections]
    assert [len(p) for p in points] == [row[1] for row in table.rows[::-1]]


def test_the_text_counts_what_entropy_would_have_bought_too(folder):
    path, run = folder / "cycle_00" / "candidates.npz", read_run(folder)
    old, bought = Candidates.load(path), {c.sample_id for c in run.bought(0)}
    mean = np.array([float(i in bought) for i in old.sample_ids])
    Candidates.images(old.sample_ids, old.utility, mean_entropy=mean, sum_entropy=1 - mean).save(path)
    n, chance = len(bought), len(bought) ** 2 / len(old)
    assert (
        f"Of the {n} images bought, {n} are among the {n} of the largest mean and 0 among those of the largest sum; "
        f"by chance {chance:.1f} would be." in choice_section(read_run(folder)).text
    )


@pytest.mark.parametrize("gone", ["entropies.json", "mean_entropy"])
def test_where_nobody_looked_nothing_is_shown(folder, gone):
    path = folder / "cycle_00" / "candidates.npz"
    if gone == "entropies.json":
        (folder / "cycle_00" / gone).unlink()
    else:
        old = Candidates.load(path)
        Candidates.images(old.sample_ids, old.utility, sum_entropy=old.info["sum_entropy"]).save(path)
    section = choice_section(read_run(folder))
    assert not (section.text or section.pictures or section.sheets or section.tables)
