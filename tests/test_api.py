"""al_lab from Python: what the page docs/api.md shows."""

import subprocess
import sys

import numpy as np
import pytest

import al_lab.api as lab
from al_lab.core.errors import ConfigError, LabError, ResumeError
from al_lab.core.pool import INITIAL


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> tuple[str, ...]:
    folder = tmp_path_factory.mktemp("a=b, c")  # a path that needs quotes on a command line
    return (
        "strategy=entropy",
        "debug=smoke",
        "executor=inline",
        "dataset.num_pool=30",
        "dataset.num_val=2",
        "dataset.num_test=4",
        f"runtime.data_dir={folder}/data",
        f"runtime.outputs_dir={folder}/out",
    )


@pytest.fixture(scope="module")
def ran(small) -> lab.OpenRun:
    return lab.run(small)


def test_a_campaign_is_run_and_gone_on_with(ran, small):
    assert ran.status == "finished"
    assert lab.run(small) == lab.OpenRun(ran.path, "already finished")
    assert ran.config["overrides"][0] == "strategy=entropy"


def test_a_run_folder_is_opened(ran):
    opened = lab.open_run(str(ran.path))
    assert [row["cycle"] for row in opened.metrics] == list(range(len(opened.metrics)))
    assert opened.metrics[-1]["num_labeled"] == sum(len(queries) for queries in opened.selections.values())
    assert list(opened.selections)[0] == INITIAL
    assert opened.cost["images"] == opened.metrics[-1]["num_labeled"]
    last = opened.predictions()
    assert len(last) == 4
    assert last.keys() == opened.predictions(0).keys()
    again = opened.outcomes().average_precision(names=["voc07_ap50"])["voc07_ap50"]
    assert again == pytest.approx([opened.metrics[-1]["voc07_ap50"]])
    with pytest.raises(ResumeError, match=r"no predictions\.npz in cycle 9"):
        opened.predictions(9)


def test_a_pool_is_ranked(ran):
    ranked = lab.rank(ran)
    labeled = {query.sample_id for queries in ran.selections.values() for query in queries}
    assert len(ranked) == 30 - ran.metrics[-1]["num_labeled"]
    assert not labeled & {i for i, _ in ranked}
    assert (np.diff([u for _, u in ranked]) <= 0).all()
    some = [i for i, _ in ranked[5:8]]
    assert lab.rank(ran.path, some) == [pair for pair in ranked if pair[0] in some]
    first = lab.rank(ran, cycle=0)
    utility, bought = dict(first), [query.sample_id for query in ran.selections[0]]
    assert sorted(utility[i] for i in bought) == sorted(u for _, u in first[: len(bought)])  # but for ties


def test_what_is_wrong_is_said(tmp_path):
    with pytest.raises(ConfigError, match="write strategy=entropy"):
        lab.run([["strategy", "entropy"][0], "entropy"])
    with pytest.raises(ConfigError, match="call run\\(\\) once for each job"):
        lab.compose(["-m", "seed=0,1"])
    with pytest.raises(LabError):
        lab.open_run(tmp_path)


def test_importing_is_quick():
    code = (
        "import sys, al_lab, al_lab.api; print(sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'hydra', "
        "'matplotlib'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
