"""What the documentation shows is run as it stands there."""

import csv
import re
from pathlib import Path

import pytest

from al_lab.campaign.loop import run_campaign
from al_lab.config.load import compose, validate
from al_lab.core.types import Annotation
from al_lab.data.generated.shapes import Shapes

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```(python|yaml)\n# (\S+)\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(), flags=re.S)
MODULES = {name.removesuffix(".py"): (name, body) for kind, name, body in BLOCKS if kind == "python"}
YAMLS = [(name, body) for kind, name, body in BLOCKS if kind == "yaml"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def test_every_extension_point_has_an_example():
    assert [name.split("/")[1] for name, _ in YAMLS] == ["strategy", "strategy", "dataset", "detector", "objective"]


@pytest.mark.parametrize(("name", "body"), YAMLS, ids=lambda v: Path(v).stem if v.startswith("conf/") else "")
def test_example_runs(name, body, tmp_path, data_dir, monkeypatch):
    _, group, file = name.split("/")
    option = file.removesuffix(".yaml")
    source, code = MODULES[option]
    (tmp_path / source).write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    conf = tmp_path / "my_conf"
    (conf / group).mkdir(parents=True)
    (conf / group / file).write_text(body)
    overrides = [
        f"hydra.searchpath=[file://{conf}]",
        "strategy=random",
        "dataset=shapes",
        "debug=smoke",
        f"runtime.data_dir={data_dir}",
        "budget.cycles=1",
        "trainer.max_iters=2",
    ]
    if group == "dataset":
        overrides += [
            "detector=tiny",
            "objective=supervised",
            "trainer=tiny",
            f"dataset.root={as_csv(tmp_path / 'csv', data_dir)}",
        ]
    else:
        overrides += ["dataset.num_pool=40", "dataset.num_val=4", "dataset.num_test=8"]
    config = compose([*overrides, f"{group}={option}"])
    validate(config)
    monkeypatch.setattr("al_lab.campaign.publish._write_report", lambda *_: None)
    assert run_campaign(config, tmp_path / "run")["status"] == "finished"


def as_csv(folder: Path, data_dir: Path) -> Path:
    """A user's data in a format of their own: shapes with their boxes in one table."""
    shapes = Shapes(data_dir=str(data_dir), num_pool=40, num_val=4, num_test=8)
    folder.mkdir()
    with (folder / "boxes.csv").open("w") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "label", "x1", "y1", "x2", "y2"])
        for k, i in enumerate(shapes.pool_ids):
            (folder / f"{k}.jpg").write_bytes(shapes.image_path(i).read_bytes())
            annotation: Annotation = shapes.truth(i)
            for box, label in zip(annotation.boxes_xyxy.tolist(), annotation.labels.tolist(), strict=True):
                writer.writerow([f"{k}.jpg", shapes.classes[label], *box])
    return folder
