"""The command as its user meets it: help, one run, a wrong command, a sweep. The campaign itself is a stand-in."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
# Python imports a sitecustomize at start-up, in a sweep's worker processes too.
STAND_IN = """
import os, sys, types
from pathlib import Path

def run_campaign(parts, run_dir):
    config = parts.config
    from al_lab.config.load import save_config
    from al_lab.core.errors import JobError
    label = f"{config['choices']['strategy']} {config['seed']}"
    if os.environ.get("FAIL") == label:
        raise JobError("train: expected a model, got a dead worker; look at the log")
    if os.environ.get("BUG") == label:
        raise ZeroDivisionError("a bug")
    if os.environ.get("SLEEP"):
        Path("started").touch()
        import time; time.sleep(60)
    save_config(config, run_dir)
    assert "torch" not in sys.modules
    return {"status": os.environ.get("STATUS", "finished"), "run_dir": str(run_dir), "message": "", "voc07_ap50": 0.5 + config["seed"] / 10}

module = types.ModuleType("al_lab.campaign.loop")
module.run_campaign = run_campaign
sys.modules["al_lab.campaign.loop"] = module
"""  # noqa: E501


@pytest.fixture
def command(tmp_path: Path):
    """Run ``run.py`` in an empty folder; returns the finished process, with ``made``: the files it left there."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(STAND_IN)
    work = tmp_path / "work"
    work.mkdir()

    def run(*args: str, **env: str) -> subprocess.CompletedProcess:
        done = subprocess.run(
            [sys.executable, str(ROOT / "run.py"), *args],
            cwd=work,
            env=environment(tmp_path) | env,
            timeout=120,
            capture_output=True,
            text=True,
            check=False,
        )
        done.made = sorted(str(p.relative_to(work)) for p in work.rglob("*") if p.is_file())
        return done

    run.work = work
    return run


def environment(tmp_path: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k != "HYDRA_FULL_ERROR"}
    return kept | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(ROOT)])}


def test_help_is_a_page(command):
    done = command("--help")
    assert done.returncode == 0
    for word in (
        "python run.py -m strategy=random,entropy seed=0,1,2",
        "dataset    coco",
        "voc5_320",
        "oracle=folder",
        "report.html",
    ):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120
    assert not done.made


def test_one_run_creates_its_folder_and_nothing_else(command):
    done = command("strategy=entropy", "seed=3")
    assert (done.returncode, done.made) == (0, ["outputs/shapes/entropy/default/seed3/config.yaml"])
    assert "finished" in done.stderr
    config = yaml.safe_load((command.work / done.made[0]).read_text())
    assert config["choices"]["strategy"] == "entropy"
    assert config["executor"]["workers"] == "auto"


def test_waiting_for_labels_is_no_failure(command):
    assert command(STATUS="awaiting").returncode == 0


def sentences(done) -> list[str]:
    """What a command says of its outcome: all lines but the one that it begins with."""
    return [line for line in done.stderr.splitlines() if "reading the configuration" not in line]


def test_a_wrong_command_is_one_sentence_and_creates_nothing(command):
    done = command("trainer.max_itres=3")
    assert (done.returncode, done.made) == (2, [])
    assert sentences(done) == [
        "command line or recipe: expected a key of the configuration, got 'trainer.max_itres'; did you mean "
        "'max_iters'?"
    ]


def test_a_configuration_that_does_not_fit_is_a_sentence_and_creates_nothing(command):
    done = command("budget.initial=5000")
    assert (done.returncode, done.made) == (2, [])
    (sentence,) = sentences(done)
    assert sentence.startswith("budget: expected a budget of at most the pool's 1200 images")
    assert "Traceback" in command("budget.initial=5000", HYDRA_FULL_ERROR="1").stderr


def test_a_failure_is_a_sentence_and_a_bug_a_traceback(command):
    failed, bug = command(FAIL="mgral 0"), command(BUG="mgral 0")
    assert failed.returncode == 1
    assert "look at the log" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert "Error executing job" not in failed.stderr
    assert bug.returncode == 1
    assert "Traceback" in bug.stderr


def test_the_whole_configuration_can_be_printed(command):
    done = command("strategy=entropy", "dataset=voc", "--cfg", "job", "--resolve")
    assert yaml.safe_load(done.stdout)["budget"]["initial"] == 1000
    assert not done.made


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["-m", "seed=0,1", "--cfg", "job"], "got -m and --cfg; leave -m out to look at a configuration"),
        (["--resolve"], "command line: expected --cfg beside --resolve, got none; add --cfg job"),
    ],
)
def test_flags_that_exclude_each_other_are_a_sentence(command, flags, sentence):
    done = command(*flags)
    assert (done.returncode, done.made) == (2, [])
    (said,) = sentences(done)
    assert sentence in said


@pytest.mark.parametrize(("how", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_that_is_stopped_says_how_to_go_on(command, tmp_path, how, status):
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py")],
        cwd=command.work,
        env=environment(tmp_path) | {"SLEEP": "1"},
        stderr=subprocess.PIPE,
        text=True,
        # a background job's children ignore it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 60
    while not (command.work / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(how)
    _, said = process.communicate(timeout=30)
    assert process.returncode == status
    assert "the same command goes on" in said


def test_a_failed_job_hides_no_other(command):
    done = command("-m", "strategy=random,entropy", "seed=0,1", "trainer.max_iters=900", FAIL="entropy 0")
    assert done.returncode == 1
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("strategy=")]
    assert [row[:3] for row in rows] == [
        ["strategy=random", "seed=0", "finished"],
        ["strategy=random", "seed=1", "finished"],
        ["strategy=entropy", "seed=0", "FAILED"],
        ["strategy=entropy", "seed=1", "finished"],
    ]
    assert "voc07_ap50=0.6" in rows[1]
    assert "dead worker" in " ".join(rows[2])
    assert "Error executing job" not in done.stderr
    # the folders of single runs, and no multirun/ or other litter
    assert done.made == [
        f"outputs/shapes/{run}/config.yaml"
        for run in (
            "entropy/trainer.max_iters-900/seed1",
            "random/trainer.max_iters-900/seed0",
            "random/trainer.max_iters-900/seed1",
        )
    ]
    assert yaml.safe_load((command.work / done.made[0]).read_text())["executor"]["campaigns"] == 2
    assert [p.name for p in (command.work / "outputs").iterdir()] == ["shapes"]


def test_a_sweep_with_a_wrong_job_starts_none(command):
    done = command("-m", "strategy=random,entropi")
    assert (done.returncode, done.made) == (2, [])
    assert "did you mean 'entropy'?" in done.stderr
