"""What is installed: the wheel outside a checkout, and what make refuses to install into."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
OWN_CLASS = """
from al_lab.strategies.general.random import Random

class Mine(Random):
    pass
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("al_lab", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    return next((source / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel holds, as ``pip install`` would lay it."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def installed(site: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import sys; from al_lab.cli.main import main; sys.exit(main())", *arguments]
    environment = os.environ | {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}  # the script's folder is not the user's
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=280)


def test_the_wheel_holds_the_configuration_and_the_command(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        entry = next(n for n in names if n.endswith("entry_points.txt"))
        assert "al-lab = al_lab.cli.main:main" in archive.read(entry).decode()
    inside = {n.removeprefix("al_lab/conf/") for n in names if n.startswith("al_lab/conf/")}
    assert inside == {str(p.relative_to(ROOT / "conf")) for p in (ROOT / "conf").rglob("*") if p.is_file()}
    assert {n.split("/")[0] for n in names} == {"al_lab", entry.split("/")[0]}
    assert wheel.stat().st_size < 2e6


def test_the_command_works_in_an_empty_folder(site, tmp_path):
    page = installed(site, "--help", cwd=tmp_path).stdout
    assert "al-lab strategy=al_ssl dataset=voc" in page
    done = installed(site, "strategy=entropy", "dataset=shapes", "debug=smoke", "--cfg", "job", cwd=tmp_path)
    assert yaml.safe_load(done.stdout)["dataset"]["_target_"].startswith("al_lab."), done.stderr
    assert installed(site, "report", "nowhere", cwd=tmp_path).stderr.startswith("error: nowhere: expected a run folder")
    assert "expected a key" in installed(site, "data", "stats", "datset=x", cwd=tmp_path).stderr
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_a_class_in_the_current_folder_runs(site, tmp_path):
    (tmp_path / "mine.py").write_text(OWN_CLASS)
    (tmp_path / "random.py").write_text("raise ImportError('a file of the user hides a library')")
    (tmp_path / "my_conf" / "strategy").mkdir(parents=True)
    (tmp_path / "my_conf" / "strategy" / "mine.yaml").write_text("_target_: mine.Mine\n")
    overrides = ("strategy=mine", "dataset=shapes", "debug=smoke", "seed=0,1", "executor=local")
    done = installed(site, "--config-dir", "my_conf", "-m", *overrides, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 jobs ended well" in done.stdout


# --- make -------------------------------------------------------------------------------------------------------------


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("pyproject.toml", "constraints.txt", "overrides.txt"):
        shutil.copy(ROOT / name, folder)
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("target", ["setup", "test", "demo"])
def test_make_leaves_a_linked_environment_alone(tmp_path, target):
    (tmp_path / ".venv").symlink_to(sys.prefix)
    done = make(tmp_path, target)
    assert done.returncode != 0
    assert f"got .venv, a link to {sys.prefix}; remove the link" in done.stdout
    assert "uv" not in done.stdout


def test_make_leaves_the_environment_of_another_checkout_alone(tmp_path):
    dist = tmp_path / "site" / "al_lab-0.1.0.dist-info"
    dist.mkdir(parents=True)
    (dist / "METADATA").write_text("Name: al_lab\nVersion: 0.1.0\n")
    (dist / "direct_url.json").write_text('{"url": "file:///else%20where/al_lab", "dir_info": {"editable": true}}')
    script(tmp_path / ".venv/bin/python", f'PYTHONPATH={tmp_path / "site"} exec {sys.executable} "$@"')
    done = make(tmp_path, "test")
    assert done.returncode != 0
    assert "which holds /else where/al_lab; remove it and make setup" in done.stderr


@pytest.mark.parametrize(("version", "word"), [((3, 10), "got 3.10"), ((3, 14), "3.14 is too new")])
def test_make_names_the_versions_of_python_that_resolve(tmp_path, version, word):
    pretend = (
        f"import collections, sys; V = collections.namedtuple('V', 'major minor'); sys.version_info = V{version}; "
    )
    python = script(tmp_path / "python", f'exec {sys.executable} -c "{pretend} exec(sys.argv[1])" "$2"')
    done = make(tmp_path, "setup", f"PYTHON={python}")
    assert done.returncode != 0
    assert "expected Python 3.11, 3.12 or 3.13" in done.stderr
    assert word in done.stderr


def test_a_setup_for_cpus_asks_for_those_wheels(tmp_path):
    assert "--torch-backend=cpu" in make(tmp_path, "-n", "setup", "CPU=1").stdout
    assert "--torch-backend" not in make(tmp_path, "-n", "setup").stdout
