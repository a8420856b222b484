"""The files that tools of the trade look for are there, and say what the Makefile says."""

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def test_hooks_run_the_projects_own_tools():
    hooks = [h for r in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"] for h in r["hooks"]]
    assert {r["repo"] for r in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]} == {"local"}
    assert all(hook["language"] == "system" for hook in hooks)
    makefile = (ROOT / "Makefile").read_text()
    for tool in ("ruff format", "ruff check", "mypy"):
        assert any(f"-m {tool}" in hook["entry"] for hook in hooks)
        assert f"-m {tool}" in makefile


def test_the_workflow_runs_what_everybody_can_run():
    job = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["ci"]
    assert job["steps"][-1] == {"run": ".ci/run"}
    run = ROOT / ".ci/run"
    assert run.stat().st_mode & 0o111
    for target in ("make setup", "make lint", "make test"):
        assert target in run.read_text()
