"""Run folders from somebody else: the page holds nothing from outside of the folder, and what is odd in it becomes a
note."""

import base64
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from al_lab.core.errors import DataError
from al_lab.reporting.document import page as page_module
from al_lab.reporting.pages.compare import write_comparison
from al_lab.reporting.pages.run import write_report
from tests.run_folders import Maker, draw_images

SECRET = "the-readers-secret"
PRIVATE = (200, 30, 60)  # the color of the reader's private image
_SECONDS = 20  # one page; a machine under load takes two


@pytest.fixture(scope="module")
def foreign(tmp_path_factory) -> Path:
    """A run whose images lie in its folder, to be spoiled; detection and pixels' file names both occur in it."""
    root = tmp_path_factory.mktemp("foreign")
    maker = Maker(root, draw_images(root / "images", 40), pool=30)
    folder = maker.run("al_ssl", cycles=1, initial=4, pseudo=True)
    shutil.copytree(root / "images", folder / "pictures")
    for path in folder.rglob("queries.json"):
        path.write_text(path.read_text().replace(f"{root}/images", "pictures"))
    return folder


@pytest.fixture
def private(tmp_path) -> Path:
    """An image of the reader's."""
    path = tmp_path / "home" / "private.png"
    path.parent.mkdir()
    Image.new("RGB", (64, 48), PRIVATE).save(path)
    return path


@dataclass(frozen=True)
class Spoil:
    """What is done to a run folder: ``act`` gets the folder and the private image; of one group each has another
    ``file``."""

    file: str
    act: Callable[[Path, Path], object]


def config(**changes: object) -> Spoil:
    def act(folder: Path, private: Path) -> None:
        path = folder / "config.yaml"
        filled = json.loads(json.dumps(changes).replace("PRIVATE", str(private)))
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | filled))

    return Spoil("config.yaml", act)


def text(name: str, content: str | bytes) -> Spoil:
    """Replace a file."""

    def act(folder: Path, _: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return Spoil(name, act)


def line(name: str, *rows: str) -> Spoil:
    """Append lines to a file."""

    def act(folder: Path, _: Path) -> None:
        with (folder / name).open("a") as stream:
            stream.write("".join(f"{row}\n" for row in rows))

    return Spoil(name, act)


def queries(**changes: object) -> Spoil:
    """Change every row of queries.json; PRIVATE in a value is the path of the private image, UP the way up to it."""

    def act(folder: Path, private: Path) -> None:
        path, up = folder / QUERIES, os.path.relpath(private, folder)
        value = json.loads(path.read_text())
        filled = json.loads(json.dumps(changes).replace("PRIVATE", str(private)).replace("UP", up))
        value["queries"] = [row | filled for row in value["queries"]]
        path.write_text(json.dumps(value))

    return Spoil(QUERIES, act)


def link(name: str) -> Spoil:
    """Make a file of the run a link to a file of the reader's."""

    def act(folder: Path, private: Path) -> None:
        target = private.with_name("secret.txt")
        target.write_text(json.dumps({"classes": [SECRET], "bought": [1], "x": SECRET, "queries": [{"id": SECRET}]}))
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return Spoil(name, act)


def pictures(replace: Callable[[Path, Path], object]) -> Spoil:
    """Replace every image of the run."""

    def act(folder: Path, private: Path) -> None:
        for path in (folder / "pictures").iterdir():
            path.unlink()
            replace(path, private)

    return Spoil(QUERIES, act)


def class_names(*names: str) -> Spoil:
    def act(folder: Path, _: Path) -> None:
        for path in folder.rglob("oracle_stats.json"):
            value = json.loads(path.read_text())
            path.write_text(json.dumps(value | {"classes": [*names, *value["classes"]][: len(value["classes"])]}))

    return Spoil("cycle_00/oracle_stats.json", act)


def pipe(name: str) -> Spoil:
    return Spoil(name, lambda folder, _: ((folder / name).unlink(missing_ok=True), os.mkfifo(folder / name)))


def as_folder(name: str) -> Spoil:
    return Spoil(name, lambda folder, _: ((folder / name).unlink(missing_ok=True), (folder / name).mkdir()))


def arrays(name: str, **content: object) -> Spoil:
    return Spoil(name, lambda folder, _: np.savez(folder / name, **{k: np.asarray(v) for k, v in content.items()}))


def objects_in_arrays(folder: Path, private: Path) -> None:
    class Touch:
        def __reduce__(self):
            return os.system, (f"touch {private.with_name('started')}",)

    np.savez(folder / CANDIDATES, sample_ids=np.array([Touch()], dtype=object))


def folder_link(folder: Path, private: Path) -> None:
    shutil.move(folder / "cycle_00", private.parent / "cycle_00")
    (folder / "cycle_00").symlink_to(private.parent / "cycle_00")


QUERIES, CANDIDATES = "cycle_00/queries.json", "cycle_00/candidates.npz"
ALONE = "alone"  # the file of what keeps others from being seen
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
# What is done to a good run folder -> what the page (or, where there is no page, the sentence) has to say.
REFUSED = {
    "a python tag": (text("config.yaml", "seed: !!python/object/apply:os.system ['touch started']"), "plain yaml"),
    "an alias bomb": (text("config.yaml", BOMB), "an alias"),
    "an alias of itself": (text("config.yaml", "a: &a [*a]"), "an alias"),
    "a number": (text("config.yaml", "5"), "a mapping of settings, got int"),
    "keys that are numbers": (text("config.yaml", "5: 6"), "keys that are no names"),
    "no UTF-8": (text("config.yaml", b"seed: \xff\xfe"), "another encoding"),
    "NUL in config.yaml": (text("config.yaml", "seed: \0"), "plain yaml"),
    "100,000 levels": (text("config.yaml", "[" * 100_000), "levels|plain yaml"),
    "5 MB of config.yaml": (text("config.yaml", "a: " + "x" * 5_000_000), "5 MB, more than the 4 MB"),
    "config.yaml is a pipe": (pipe("config.yaml"), "a named pipe"),
    "config.yaml is a folder": (as_folder("config.yaml"), "a folder"),
    "config.yaml is a link out": (link("config.yaml"), "a link out of the folder"),
}
ODD = {
    "an environment variable": (config(name="${oc.env:SECRET}"), ""),
    "dataset: 5": (config(dataset=5), "dataset: expected a group of settings, got 5"),
    "budget: a list": (config(budget=[1]), "budget: expected a group of settings"),
    "choices: numbers": (config(choices={"strategy": 5}), "choices"),
    "seed: text, a date for a name": (config(seed="x", name=[1]), "seed: expected a whole number"),
    "cycles: text": (config(budget={"cycles": "x", "initial": "y"}), "budget.cycles: expected"),
    "a pixel budget without pixels": (Spoil(ALONE, config(budget={"unit": "pixel"}).act), ""),
    "metrics of the dataset: text": (config(dataset={"metrics": [1], "classes": [1, None]}), "metrics"),
    "a checkpoint of the reader's": (config(trainer={"init": "PRIVATE"}, strategy={"path": "PRIVATE"}), ""),
    "an absolute image path": (queries(image="PRIVATE"), "Images outside of the run folder are not shown"),
    "an image path that climbs": (queries(image="UP"), "Images outside of the run folder are not shown"),
    "an image path that climbs inside": (queries(image="pictures/../UP"), "Images outside of the run folder"),
    "image paths that are numbers": (queries(image=5), "have no path"),
    "an image path with a NUL": (queries(image="a\0b"), "have no path"),
    "an image path of 100,000 characters": (queries(image="x" * 100_000), "have no path"),
    "images that are links out": (pictures(lambda path, private: path.symlink_to(private)), "are not shown"),
    "images that are PostScript": (pictures(lambda path, _: path.write_bytes(POSTSCRIPT)), "no image in one of "
                                                                                           "the formats"),
    "a mask that climbs": (queries(mask="../" * 20 + "etc/passwd"), "lies outside of the run folder"),
    "a mask that is no mask": (queries(mask="pool.json"), "could not be opened"),
    "utilities that are text": (queries(utility="high"), ""),
    "utilities that are huge": (queries(utility=10**400), ""),
    "queries that are numbers": (text(QUERIES, '{"queries":[1,2]}'), "2 of 2 queries name no image"),
    "queries: a number": (text(QUERIES, '{"queries":5}'), "expected a list of queries, got 5"),
    "queries.json: a list": (text(QUERIES, "[1]"), "expected an object, got"),
    "queries.json: 100,000 levels": (text(QUERIES, "[" * 100_000), "can't be read"),
    "queries.json is a pipe": (pipe(QUERIES), "a named pipe"),
    "queries.json is a link out": (link(QUERIES), "outside of the run folder"),
    "boxes that are text": (line("cycle_00/labels.jsonl", '{"id":"a","annotation":{"boxes_xyxy":"abc"}}'), "1 lines are no"),  # noqa: E501
    "an annotation that is a list": (line("cycle_00/labels.jsonl", '{"id":"a","annotation":[1]}'), "1 lines are no"),
    "labels without boxes": (line("cycle_00/labels.jsonl", '{"id":[],"annotation":{"labels":[1]}}'), "1 lines are no"),
    "labels.jsonl: no JSON": (line("cycle_00/labels.jsonl", "x", '"y"'), "is not a JSON object"),
    "a pool of numbers": (text("cycle_01/pool.json", '{"whole":5,"parts":null,"num_ids":-3}'), "expected whole "
                                                                                               "and parts"),
    "a metric that is text": (line("metrics.jsonl", '{"cycle":1,"voc07_ap50":"high","spent_images":[1]}'), "got 'high'"),  # noqa: E501
    "a metric of 1e400": (line("metrics.jsonl", '{"cycle":1,"voc07_ap50":1e400}'), "got inf"),
    "cycle -5": (line("metrics.jsonl", '{"cycle":-5}'), "got -5"),
    "cycle 99999999999999999999": (line("metrics.jsonl", '{"cycle":99999999999999999999}'), "expected a cycle"),
    "a cycle that is true": (line("metrics.jsonl", '{"cycle":true}', '{"cycle":null}'), "got True"),
    "metrics.jsonl: no UTF-8": (text("metrics.jsonl", b"\xff\xfe{}"), "another encoding"),
    "a ledger of nonsense": (line("ledger.jsonl", '{"stage":1,"seconds":"x","cycle":"a","scalars":[1]}'), "stage: expected text"),  # noqa: E501
    "a ledger of 1e400 seconds": (line("ledger.jsonl", '{"stage":"a","seconds":1e400,"cycle":1}'), "got inf"),
    "environment.json: a list": (text("environment.json", "[1]"), "environment.json can't be read"),
    "environment.json: overrides of numbers": (text("environment.json", '{"overrides":[1,{}],"command":5}'), ""),
    "environment.json is a link out": (link("environment.json"), "outside of the run folder"),
    "costs that are text": (text("cycle_00/cost.json", '{"images":"x","hours":-1,"boxes":1e999}'), "is no cost"),
    "cost.json: text": (text("cycle_00/cost.json", "x"), "cost.json can't be read"),
    "counts that are text": (
        text("cycle_00/oracle_stats.json", '{"classes":["a"],"bought":["x"],"pool":[-1]}'),
        "it has no counts per class",
    ),
    "counts that are mappings": (text("cycle_00/oracle_stats.json", '{"classes":{},"bought":5}'), "no counts per class"),  # noqa: E501
    "pseudo-labels that are text": (text("cycle_00/pseudo_stats.json", '{"images":"x"}'), "it has no counts"),
    "pseudo-labels of odd classes": (
        text(
            "cycle_00/pseudo_stats.json",
            '{"unlabeled":1,"images":1,"boxes":1,"precision":"x","tau":[],"per_class":{"a":{"boxes":1e300}}}',
        ),
        "",
    ),
    "train_log.csv with NUL": (text("cycle_00/train_log.csv", "a\0,b\n1,2\n"), ""),
    "per_class.csv with NUL": (text("cycle_01/per_class.csv", "class,ap,metric\n\0,1,voc07_ap50\n"), ""),
    "per_class.csv of other columns": (text("cycle_01/per_class.csv", "metric\nx,y,z\n"), ""),
    "per_class.csv: a cell of 200 kB": (text("cycle_01/per_class.csv", "class,ap\n" + "x" * 200_000 + ",1\n"), "field"),
    "per_class.csv is a link out": (link("cycle_01/per_class.csv"), "outside of the run folder"),
    "candidates: no zip": (text(CANDIDATES, "x"), "candidates.npz can't be read"),
    "candidates of objects": (Spoil(CANDIDATES, objects_in_arrays), "candidates.npz can't be read"),
    "candidates of other shapes": (
        arrays(CANDIDATES, sample_ids=["a"], sample=[[7]], utility=[1.0], radius_px=0),
        "candidates.npz|Utilities",
    ),
    "an analysis of nonsense": (text("cycle_01/analysis.json", '{"images":5,"loss":[],"predictions":[1]}'), ""),
    "a table of nonsense": (text("cycle_00/lut/table.json", '{"rows":[1]}'), "table.json can't be read"),
    "a cycle's folder is a link out": (Spoil(ALONE, folder_link), ""),
    "a cycle's folder with a strange number": (as_folder("cycle_²²"), ""),
    "class names of HTML": (class_names("<script>alert(1)</script>", "<img src=x onerror=alert(1)>"), ""),
    "class names of mathematics": (class_names(r"$\frac{x_{$", "US$ and A$"), ""),
    "a class name of 5 MB": (class_names("x" * 5_000_000), ""),
    "class names in several lines": (class_names("a\nb\x1b[31m", "\u202eabc"), ""),
    "class names that are null": (text("cycle_00/oracle_stats.json", '{"classes":[null,1],"bought":[1,2],"pool":[3,4]}'), ""),  # noqa: E501
}  # fmt: skip


@pytest.fixture
def spoiled(foreign, private, tmp_path, monkeypatch):
    """A copy of the run with one thing wrong, in a place where a program that is started leaves a trace."""
    monkeypatch.setenv("SECRET", SECRET)
    monkeypatch.setattr(page_module, "to_svg", lambda figure, name, alt: "<svg></svg>")  # drawn below
    (tmp_path / "bin").mkdir()
    gs = tmp_path / "bin" / "gs"
    gs.write_text(f"#!/bin/sh\ntouch '{tmp_path}/home/started'\n")
    gs.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=":")
    monkeypatch.chdir(private.parent)

    def make(*spoils):
        folder = tmp_path / "outputs" / "shapes" / "al_ssl" / "default" / "seed0"
        shutil.copytree(foreign, folder)
        for spoil in spoils:
            spoil.act(folder, private)
        return folder

    yield make
    assert not (private.parent / "started").exists()


def shows_private(html: str) -> bool:
    """Whether one of the page's pictures is the reader's image."""
    for data in re.findall(r'data:image/jpeg;base64,([^"]+)"', html):
        path = Path("picture.jpg")
        path.write_bytes(base64.b64decode(data))
        with Image.open(path) as image:
            if np.abs(np.asarray(image.convert("RGB"), int).reshape(-1, 3).mean(0) - PRIVATE).max() < 40:
                return True
    return False


def check_page(html: str) -> None:
    assert not shows_private(html)
    assert SECRET not in html
    assert "<script>alert" not in html and "<img src=x" not in html
    assert "\x1b" not in html and len(html) < 2_000_000


@pytest.mark.parametrize("name", REFUSED)
def test_a_config_that_is_none_is_one_sentence(spoiled, name):
    spoil, message = REFUSED[name]
    folder, start = spoiled(spoil), time.monotonic()
    with pytest.raises(DataError, match=message) as error:
        write_report(folder)
    assert str(folder) in str(error.value) and time.monotonic() - start < _SECONDS


def notes_of(html: str) -> str:
    notes = html.partition('<aside class="notes"')[2].partition("</aside>")[0]
    return "\n".join(unescape(note) for note in re.findall(r"<li>(.*?)</li>", notes))


def groups() -> list[list[str]]:
    """Put cases together that spoil different files, so that a page tells of many."""
    found: list[list[str]] = []
    for name, (spoil, _) in ODD.items():
        fitting = (g for g in found if not {spoil.file, ALONE} & {ODD[other][0].file for other in g})
        group = next(fitting, None) if spoil.file != ALONE else None
        if group is None:
            found.append([name])
        else:
            group.append(name)
    return found


@pytest.mark.parametrize("names", [*groups(), *(pytest.param([name], marks=pytest.mark.slow) for name in ODD)])
def test_odd_contents_become_notes(spoiled, names):
    folder, start = spoiled(*(ODD[name][0] for name in names)), time.monotonic()
    html = write_report(folder).read_text()
    check_page(html)
    assert time.monotonic() - start < _SECONDS
    notes = notes_of(html)
    assert not [(name, ODD[name][1]) for name in names if not re.search(ODD[name][1], notes)], notes


def test_a_good_folder_shows_its_own_images_and_those_of_folders_that_are_named(spoiled, private):
    folder = spoiled()
    html = write_report(folder).read_text()
    assert html.count("data:image/jpeg") > 4 and not shows_private(html) and not notes_of(html)
    queries(image="PRIVATE").act(folder, private)
    assert not shows_private(write_report(folder).read_text())
    assert not shows_private(write_report(folder, image_folders=[private.parent / "other"]).read_text())
    assert shows_private(write_report(folder, image_folders=[private.parent]).read_text())


@pytest.mark.slow
def test_names_of_mathematics_are_drawn_and_exported(foreign, tmp_path):
    folder = tmp_path / "outputs" / "shapes" / "al_ssl" / "default" / "seed0"
    shutil.copytree(foreign, folder)
    for spoil in (class_names(r"$\frac{x_{$", "US$ and A$"), config(name="$x_{$")):
        spoil.act(folder, folder)
    (folder / "cycle_01" / "per_class.csv").write_text("class,ap\n=1+1,0.5\n$\\frac{x_{$,0.5\n")
    path = write_comparison([folder], tmp_path / "out")
    assert "left out" not in notes_of(path.read_text())
    cells = (tmp_path / "out" / "tables" / "per_class.csv").read_text()
    assert "'=1+1" in cells and "\n=1+1" not in cells
