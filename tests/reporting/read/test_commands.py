import json

import pytest

from al_lab.reporting.read import commands
from al_lab.reporting.read.find import read_run


def made(maker, command, strategy="entropy", **changes):
    folder = maker.run(strategy, 1, **changes)
    path = folder / "environment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"command": command}))
    return read_run(folder)


def test_the_missing_lines_keep_what_was_overridden(maker):
    words = (
        "strategy=entropy strategy.aggregation=sum dataset=voc_folder dataset.root=/data/x budget.cycles=4 "
        "seed=1 name=mine"
    )
    run = made(maker, f"/somewhere/run.py {words}")
    assert commands.reproduce(run) == f"python run.py {words}"
    assert commands.random_line(run, (0, 1)) == (
        "python run.py -m strategy=random protocol=mgral dataset=voc_folder dataset.root=/data/x "
        "budget.cycles=4 seed=0,1"
    )
    assert (
        commands.full_data_line(run)
        == "python run.py strategy=random budget=full protocol=mgral dataset=voc_folder dataset.root=/data/x seed=1"
    )


def test_one_run_of_a_sweep_is_reproduced_alone(maker):
    run = made(maker, "run.py -m strategy=random,entropy seed=0,1,2 dataset=shapes")
    assert commands.reproduce(run) == "python run.py strategy=entropy seed=1 dataset=shapes"


@pytest.mark.parametrize("command", ["", "-c from joblib import worker", "python -m something else=1"])
def test_a_run_started_elsewhere_is_reproduced_from_its_choices(maker, command):
    assert commands.reproduce(made(maker, command)) == "python run.py strategy=entropy dataset=shapes seed=1"


@pytest.mark.parametrize("program", ["/opt/bin/al-lab", "/opt/lib/al_lab/__main__.py"])
def test_an_installed_command_is_named_as_it_was_given(maker, program):
    run = made(maker, f"{program} strategy=entropy dataset=voc seed=1")
    assert commands.reproduce(run) == "al-lab strategy=entropy dataset=voc seed=1"


def test_what_the_shell_would_read_is_quoted(maker):
    run = made(maker, "run.py strategy=entropy budget.per_cycle=[1,2] dataset=shapes")
    assert "'budget.per_cycle=[1,2]'" in commands.random_line(run)
    assert " -m " not in commands.random_line(run)


def test_a_run_of_a_sweep_whose_recipe_names_the_strategies(maker):
    run = read_run(maker.run("entropy", seed=2))
    run.environment["overrides"] = ["-m", "experiment=shapes_demo"]
    assert commands.reproduce(run) == "python run.py strategy=entropy seed=2 experiment=shapes_demo"
    assert (
        commands.full_data_line(run)
        == "python run.py strategy=random budget=full protocol=mgral experiment=shapes_demo seed=2"
    )
