"""The command as its user meets it: help, one run, a wrong command, a sweep. The campaign itself is a stand-in.

Most commands run within the test's process; those of which the process itself matters are processes.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from al_lab.cli import main, sweep
from al_lab.core.errors import ConfigError

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
    if os.environ.get("STOP"):
        import signal; signal.raise_signal(signal.Signals[os.environ["STOP"]])
    save_config(config, run_dir)
    if os.environ.get("LIGHT"):
        assert "torch" not in sys.modules
    return {"status": os.environ.get("STATUS", "finished"), "run_dir": str(run_dir), "message": "", "voc07_ap50": 0.5 + config["seed"] / 10}

module = types.ModuleType("al_lab.campaign.loop")
module.run_campaign = run_campaign
sys.modules["al_lab.campaign.loop"] = module
"""  # noqa: E501


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The empty folder in which commands are given."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(STAND_IN)
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def made(work: Path) -> list[str]:
    return sorted(str(p.relative_to(work)) for p in work.rglob("*") if p.is_file())


@pytest.fixture
def process(work: Path):
    """Run ``run.py`` as a process of its own; returns how it ended, with ``made``: the files it left."""

    def run(*args: str, **env: str) -> subprocess.CompletedProcess:
        done = subprocess.run(
            [sys.executable, str(ROOT / "run.py"), *args],
            cwd=work,
            env=environment(work) | env,
            timeout=120,
            capture_output=True,
            text=True,
            check=False,
        )
        done.made = made(work)
        return done

    return run


@pytest.fixture
def command(work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """Run ``run.py`` here; what it changes of this process is put back."""
    monkeypatch.chdir(work)
    monkeypatch.setitem(sys.modules, "al_lab.campaign.loop", None)
    exec(STAND_IN, {})
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sweep, "_current", None)
    monkeypatch.setenv("MPLBACKEND", "agg")
    before = {how: signal.signal(how, signal.default_int_handler) for how in (signal.SIGINT, signal.SIGTERM)}

    def run(*args: str, **env: str) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["run.py", *args])
        monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
        with monkeypatch.context() as patch:
            for key, value in env.items():
                patch.setenv(key, value)
            try:
                status = main.main()
            except SystemExit as end:
                status = end.code
        printed = capsys.readouterr()
        return SimpleNamespace(returncode=status, stdout=printed.out, stderr=printed.err, made=made(work))

    yield run
    for how, handler in before.items():
        signal.signal(how, handler)


def environment(work: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k != "HYDRA_FULL_ERROR"}
    return kept | {"PYTHONPATH": os.pathsep.join([str(work.parent / "site"), str(ROOT)])}


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


def test_one_run_creates_its_folder_and_nothing_else(process, work):
    done = process("strategy=entropy", "seed=3", LIGHT="1")
    assert (done.returncode, done.made) == (0, ["outputs/shapes/entropy/default/seed3/config.yaml"])
    assert "finished" in done.stderr
    config = yaml.safe_load((work / done.made[0]).read_text())
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
    with pytest.raises(ConfigError, match="budget of at most"):  # with its traceback
        command("budget.initial=5000", HYDRA_FULL_ERROR="1")


def test_a_failure_is_a_sentence_and_a_bug_a_traceback(command):
    failed = command(FAIL="mgral 0")
    assert failed.returncode == 1
    assert "look at the log" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert "Error executing job" not in failed.stderr
    with pytest.raises(ZeroDivisionError, match="a bug"):
        command(BUG="mgral 0")


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


@pytest.mark.parametrize(("how", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_command_that_is_stopped_says_how_to_go_on(command, how, status):
    done = command(STOP=how)
    assert (done.returncode, done.made) == (status, [])
    assert "the same command goes on" in done.stderr


def test_a_process_that_is_told_to_end_ends_with_that_status(work):
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py")],
        cwd=work,
        env=environment(work) | {"SLEEP": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (work / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.terminate()
    _, said = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "the same command goes on" in said


def test_a_failed_job_hides_no_other(process, work):
    done = process("-m", "strategy=random,entropy", "seed=1", "trainer.max_iters=900", FAIL="random 1")
    assert done.returncode == 1
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("strategy=")]
    assert [row[:2] for row in rows] == [["strategy=random", "FAILED"], ["strategy=entropy", "finished"]]
    assert "dead worker" in " ".join(rows[0])
    assert "voc07_ap50=0.6" in rows[1]
    assert "Error executing job" not in done.stderr
    # the folders of single runs, and no multirun/ or other litter
    assert done.made == ["outputs/shapes/entropy/trainer.max_iters-900/seed1/config.yaml"]
    assert yaml.safe_load((work / done.made[0]).read_text())["executor"]["campaigns"] == 2
    assert [p.name for p in (work / "outputs").iterdir()] == ["shapes"]


def test_a_sweep_with_a_wrong_job_starts_none(command):
    done = command("-m", "strategy=random,entropi")
    assert (done.returncode, done.made) == (2, [])
    assert "did you mean 'entropy'?" in done.stderr
