"""The report of bought pixels, from run folders as a segmentation's campaign leaves them; numbers are invented."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image

from al_lab.core.budget import Allowance
from al_lab.core.files import write_json
from al_lab.core.pool import INITIAL, Pool, purchase_dir
from al_lab.core.record.ledger import Ledger
from al_lab.core.record.purchase import write_pixel_labels, write_queries
from al_lab.core.types import Query, Region
from al_lab.reporting.figures.segmentation import color_labels, overlay, palette
from al_lab.reporting.judge.protocol import Series
from al_lab.reporting.pages.compare import build_comparison
from al_lab.reporting.pages.run import build_page, write_report
from al_lab.reporting.read.analysis import analysis_of
from al_lab.reporting.read.find import read_run
from al_lab.reporting.sections.bought_pixels import bought_share, overlays_section, pixel_classes_section, shown
from al_lab.reporting.sections.results import spent_columns
from al_lab.reporting.sections.segmentation import _sampled, pixel_sections

CLASSES = ["road", "car", "thing & <b>"]
HW = (20, 30)
IDS = tuple(f"train/{k}" for k in range(5))


def make(root: Path, strategy: str = "density", seed: int = 0, *, analysis: bool = True, features: bool = True) -> Path:
    """Make a run of two purchases of 6 pixels an image, one of them void."""
    folder = root / "outputs" / "streets" / strategy / "default" / f"seed{seed}"
    folder.mkdir(parents=True)
    config = {
        "protocol": "density",
        "dataset": {"name": "streets", "metrics": ["miou"]},
        "segmenter": {"_target_": "x"},
        "name": "default",
        "strategy": {"_target_": strategy},
        "budget": {"unit": "pixel", "initial": 0, "per_cycle": 6, "cycles": 2},
        "trainer": {"lr": 1},
        "seed": seed,
        "split_seed": 0,
        "runtime": {},
        "choices": {"strategy": strategy, "dataset": "streets", "protocol": "density"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    rng, ledger, pool = np.random.default_rng(seed), Ledger(folder / "ledger.jsonl"), Pool(IDS, run_dir=folder)
    for i in IDS:
        (root / "images" / i).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (*HW, 3), np.uint8)).save(root / "images" / f"{i}.png")
    rows = []
    for cycle in range(INITIAL, 3):
        where = purchase_dir(folder, cycle)
        if cycle != INITIAL:
            write_json(where / "pool.json", pool.to_json())
            spent = 30 * cycle
            scalars = {"bought_pixels": spent, "effective_labels": spent // 2}
            ledger.commit(cycle, "train", seconds=3, scalars=scalars, files={})
            ledger.commit(cycle, "evaluate", seconds=1, scalars={"miou": 0.3 + 0.1 * cycle}, files={})
            judged = {"radial": 0.25, "radial_k_center": 0.125, "density_rank": 0.5 + cycle / 4} if features else {}
            ledger.commit(cycle, "score", seconds=1, scalars={"num_candidates": 9, **judged}, files={})
            rows.append(
                {
                    "cycle": cycle,
                    "spent_images": 0,
                    "spent_boxes": 0,
                    "spent_pixels": spent,
                    "spent_hours": 0.1,
                    "miou": 0.3 + 0.1 * cycle,
                }
            )
        if cycle == 2:
            break
        queries = [] if cycle == INITIAL else [Query(i, Region(np.arange(6) + 40 * cycle, HW), 0.5) for i in IDS]
        write_queries(where, queries, Allowance("pixel", 6), {i: str(root / "images" / f"{i}.png") for i in IDS})
        for q in queries:
            write_pixel_labels(where, q.sample_id, np.array([0, 0, 0, 1, 1, 255]))
        write_json(where / "cost.json", {"images": 0, "boxes": 0, "pixels": 6 * len(queries), "hours": 0.05})
        write_json(
            where / "oracle_stats.json",
            {"classes": CLASSES, "bought": [3 * len(queries), 2 * len(queries), 0], "pool": [2000, 900, 7]},
        )
        pool = pool.acquire(queries, cycle)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    if analysis:
        analyze(folder, root, seed, features)
    return folder


def analyze(folder: Path, root: Path, seed: int, features: bool) -> None:
    covered = {
        "population": 600,
        "radius": 0.5 + seed,
        "largest_radial": 0.25,
        "largest_radial_others": 0.3,
        "mean_distance": 0.1,
    }
    bounds = {"radius": 0.5, "largest_radial": 0.25 + seed, "mean_distance": 0.1}
    covered |= {"neighbor_rank": 0.75, "one_purchase": {"k_center": bounds, "density": bounds | {"radius": 0.625}}}
    measured = [{"id": i, "pixels": 600, "valid": 590, "bought": 12, **(covered if features else {})} for i in IDS[:2]]
    density = np.linspace(0.6, 2.9, 20)
    image = str(root / "images" / "train" / "0.png")
    write_json(
        folder / "cycle_02" / "analysis.json",
        {
            "images": measured,
            "loss": {"all": 0.9, "bought": 1.2, "core_set": 0.3},
            "calibration": {
                "density": density.tolist(),
                "radial": (0.2 / density + 0.1).tolist(),
                "centers": 20,
                "fit": {"slope": 0.2, "intercept": 0.1, "r2": 1.0},
            }
            if features
            else None,
            "calibration_random": {"density": [], "fit": {"slope": 0.2, "intercept": 0.1, "r2": 0.5}}
            if features
            else None,
            "maps": [{"id": "train/0", "image": image}] if features else [],
            "predictions": [{"id": "test/0", "image": image, "accuracy": 0.5}, {"id": "test/1", "image": "gone.png"}],
            "cycle": 2,
            "class_names": CLASSES,
            "classes": {
                "bought": [0.6, 0.4, 0],
                "pool": [0.7, 0.3, 0],
                "entropy": 0.673,
                "wasted": 1 / 6,
                "pixels": 60,
            },
        },
    )
    arrays = {
        "predicted_0": np.ones(HW, np.uint8),
        "truth_0": np.full(HW, 255, np.uint8),
        "predicted_1": np.ones(HW, np.uint8),
    }
    if features:
        arrays |= {
            "error_0": np.eye(4, 6),
            "density_0": np.exp(np.eye(4, 6)),
            "tsne_points": np.random.default_rng(0).normal(size=(9, 2)),
            "tsne_labels": np.array([0, 1, 2, 255, 0, 1, 1, 1, 0]),
            "tsne_bought": np.arange(9) < 3,
        }
    np.savez(folder / "cycle_02" / "analysis.npz", **arrays)


def sections(run_dirs: list[Path]) -> dict:
    lines = [Series(p.parents[1].name, p.parents[1].name, (read_run(p),)) for p in run_dirs]
    return {s.key: s for s in pixel_sections(lines)}


def test_one_run(tmp_path):
    path = make(tmp_path)
    found = sections([path])
    assert [p.name for s in found.values() for p in s.pictures] == [
        "density_calibration",
        "predictions",
        "density_maps",
        "densities",
        "features_tsne",
    ]
    rows = {row[0]: row[1:] for row in found["coverage"].tables[0].rows}
    assert rows["covering radius δ"] == [0.5, 0.5] and rows["core-set loss, |all − bought|"][0] == 0.3
    assert "held in 2 of 2 images" in found["coverage"].text
    html = write_report(path, exports_dir=tmp_path / "export").read_text()
    assert (
        all(f'id="{key}"' in html for key in ("bought", "images", "coverage", "maps", "features"))
        and "thing &amp; &lt;b&gt;" in html
    )
    assert "60</dd>" in html and "about 2 % of the pool&#39;s" in html and "2 % of the pool's at the end" in html
    assert {"bought_overlays.png", "predictions.pdf"} <= {p.name for p in (tmp_path / "export" / "figures").iterdir()}


@pytest.mark.parametrize(
    ("clicks", "columns"),
    [
        ([0, 10, 20], ["spent_pixels", "spent_clicks", "spent_images"]),  # squares of three pixels
        ([0, 30, 60], ["spent_pixels", "spent_images"]),  # single pixels: it would be the same curve twice
        ([None, None, 20], ["spent_pixels", "spent_images"]),  # begun before clicks were counted
    ],
)
def test_clicks_are_a_unit_of_their_own_where_they_are_not_the_pixels(clicks, columns):
    rows = [{"spent_images": 8, "spent_pixels": 30 * n, "spent_clicks": k} for n, k in enumerate(clicks)]
    run = SimpleNamespace(
        metrics=rows,
        config={"budget": {"unit": "region"}},
        column=lambda name: [np.nan if (v := row.get(name)) is None else v for row in rows],
    )
    assert spent_columns([run]) == columns


def test_pixels_bought(tmp_path):
    run = read_run(make(tmp_path))
    section = pixel_classes_section([Series("density", "density", (run,))])
    assert section.tables[0].rows[0][:5] == ["density", 0, 60, pytest.approx(2.0), 30] and section.tables[0].rows[0][
        5
    ] == pytest.approx(100 / 6)
    assert bought_share(run, 300) == pytest.approx(0.1)
    text = section.pictures[0].svg
    assert "bought by density" in text and "all pixels of the pool" in text


def test_pictures_are_of_as_many_strategies_as_fit():
    lines = [
        Series(f"{strategy} {k}", strategy, ())
        for strategy, count in (("density", 3), ("ripu", 2), ("random", 1))
        for k in range(count)
    ]
    assert [s.label for s in shown(lines)] == ["density 0", "density 1", "ripu 0", "random 0"]


def test_overlay_draws_each_purchase_in_its_color():
    picture = np.full((20, 30, 3), 200, np.uint8)
    masks = [np.zeros((10, 15), bool) for _ in range(2)]
    masks[0][2, 3], masks[1][8, 13] = True, True
    out = overlay(picture, masks, ["#ff0000", "#0000ff"])
    assert tuple(out[5, 7]) == (255, 0, 0) and tuple(out[17, 27]) == (0, 0, 255) and len(set(out[0, 0])) == 1
    assert (out == (255, 0, 0)).all(2).sum() == 9
    colors = palette(["road", "sky"])
    assert tuple(color_labels(np.array([[0, 255]]), list(colors.values()))[0, 0]) == (128, 64, 128)
    assert len(set(palette([f"c{k}" for k in range(19)]).values())) == 19


def test_strategies_side_by_side(tmp_path):
    paths = [make(tmp_path, s, seed) for s in ("density", "random") for seed in (0, 1)]
    page = build_comparison([read_run(p) for p in paths])
    found = {s.key: s for s in page.sections}
    bounds = found["coverage"].tables[0]
    assert [row[0] for row in bounds.rows] == ["density", "random"]
    assert bounds.rows[0][1:4] == [2, 1.0, pytest.approx(np.std([0.5, 1.5], ddof=1))]
    assert len(found["coverage"].files[0].rows) == 2 * 2 * 2
    assert bounds.columns[-2:] == ["R², random centers", "± SD"] and bounds.rows[0][-2:] == [0.5, 0]
    assert found["coverage"].tables[1].rows[0] == ["density", 0.5, 0.625, 0.75, 0.75, 0.1, 0.1, 0.75]
    queries = [row[:3] + row[4:6] for row in found["coverage"].tables[2].rows if row[0] == "density"]
    assert queries == [["density", cycle, 0.5 + cycle / 4, 0.25, 0.125] for cycle in range(3)]
    text = found["images"].pictures[0].svg
    assert all(word in text for word in ("density", "random", "train/"))
    assert found["cost"].tables[0].columns[2] == "pixels labeled" and found["cost"].tables[0].rows[0][2] == 60
    assert page.numbers[0].detail.startswith("40.0 %")  # mean height over the pixels bought: 30, 40, 50 %
    page.html()


def test_without_features_without_analysis_and_damaged(tmp_path):
    """No branch: losses and predictions. An old folder: what its purchases say, and how to get the rest. A damaged
    file: a note."""
    bare = sections([make(tmp_path / "a", features=False)])
    assert set(bare) == {"coverage", "maps"} and "no features of pixels" in bare["coverage"].text
    old = make(tmp_path / "b", analysis=False)
    assert "same command" in sections([old])["coverage"].missing[0][0]
    assert analysis_of(read_run(old)) is None
    page = build_page(read_run(old), [read_run(old)])
    assert {"bought", "images"} <= {s.key for s in page.sections if s.pictures}
    broken = make(tmp_path / "c")
    (broken / "cycle_02" / "analysis.npz").write_bytes(b"no zip")
    next((broken / "cycle_00" / "masks").iterdir()).write_bytes(b"no zip")
    run = read_run(broken)
    page = build_page(run, [run])
    page.html()
    assert sum("analysis.npz can't be read" in note for note in page.notes) == 1 and any(
        "its pixels are left out" in note for note in page.notes
    )


def test_nothing_bought_and_detection(tmp_path, maker):
    run = read_run(maker.run("random"))
    assert not pixel_sections([Series("random", "random", (run,))])
    begun = make(tmp_path / "d", analysis=False)
    for cycle in (0, 1):
        (begun / f"cycle_{cycle:02d}" / "queries.json").unlink()
    assert overlays_section([Series("density", "density", (read_run(begun),))]).text == "Nothing has been bought yet."


def test_segments_are_outlined_and_how_wrong_one_class_is_is_said(tmp_path):
    folder = make(tmp_path / "e")
    map_HW = np.repeat(np.arange(3), 10)[None].repeat(HW[0], 0).astype(np.int16)
    for cycle in (0, 1):
        where = folder / f"cycle_{cycle:02d}"
        queries = [Query(i, Region.of_segments(map_HW, [cycle, cycle + 1]), 0.5) for i in IDS]
        write_queries(where, queries, Allowance("segment", 20), {})
        stats = json.loads((where / "oracle_stats.json").read_text())
        said = {"pixels": 200, "wrong": 10, "lost": [8, 2, 0], "invented": [0, 0, 10]}
        write_json(where / "oracle_stats.json", stats | {"dominant": said})
    run = read_run(folder)
    edge = run.outlines(run.bought(0)[0].mask)
    assert edge.sum() == 2 * HW[0] and edge[:, 10].all() and edge[:, 20].all()
    tables = {t.name: t for t in pixel_classes_section([Series("density", "density", (run,))]).tables}
    assert tables["dominant"].rows == [["density", 0, 400, 5.0, "road (80 %)", "thing & <b> (100 %)"]]


def test_pixels_that_stand_for_others_are_counted_in_words():
    row = {"population": 900, "valid": 1000, "centers": 50, "centers_of": 384}
    words = _sampled(SimpleNamespace(covered=[row, {"population": 10, "valid": 10}]))
    assert words == "In 1 of them 900 pixels stood for 1,000. In 1 of them 50 stood for 384 bought pixels."
    assert _sampled(SimpleNamespace(covered=[{"population": 10, "valid": 10}])) == ""
