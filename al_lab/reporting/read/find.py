"""Find run folders and read them."""

import re
from collections.abc import Iterable
from pathlib import Path

import yaml

from al_lab.core.errors import DataError, explain
from al_lab.reporting.read.run_folder import Run, read_lines

_SEED_FOLDER = re.compile(r"^seed\d+$")
# The C reader is ten times faster; a report may look at hundreds of neighbours.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_run(path: Path) -> Run:
    """Read one run folder.

    Raises:
        DataError: if the folder has no readable config.yaml; everything else that is missing becomes a note.
    """
    path = path.resolve()
    config_path = path / "config.yaml"
    try:
        config = yaml.load(config_path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a safe loader
    except FileNotFoundError as error:
        raise DataError(
            explain(
                expected="a run folder (one with config.yaml)",
                got="no config.yaml",
                where=str(path),
                do="name a folder below outputs/<dataset>/<strategy>/<name>/seed<k>, or one above it",
            )
        ) from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(
            explain(
                expected="yaml",
                got=str(error).splitlines()[0],
                where=str(config_path),
                do="restore the file from the run's backup, or leave this run out",
            )
        ) from error
    if not isinstance(config, dict):
        raise DataError(
            explain(expected="a mapping", got=type(config).__name__, where=str(config_path), do="leave this run out")
        )
    run = Run(path, config)
    environment = run.read_json(path / "environment.json")
    run.environment = environment if isinstance(environment, dict) else {}
    if (path / "metrics.jsonl").exists():
        rows = {
            row["cycle"]: row
            for row in read_lines(path / "metrics.jsonl", run.notes)
            if isinstance(row.get("cycle"), int)
        }
        run.metrics = [rows[c] for c in sorted(rows)]
    run.ledger = read_lines(path / "ledger.jsonl", run.notes) if (path / "ledger.jsonl").exists() else []
    return run


def find_runs(paths: Iterable[Path]) -> list[Run]:
    """Read the runs named, and every run below a folder that is none itself.

    Folders that `restart=true` moved aside are only read when named themselves.

    Raises:
        DataError: if a path doesn't exist or holds no run.
    """
    runs: dict[Path, Run] = {}
    for path in paths:
        if not path.exists():
            raise DataError(
                explain(
                    expected="a run folder, or a folder above runs",
                    got="nothing there",
                    where=str(path),
                    do="look in outputs/ for the folders that exist",
                )
            )
        if (path / "config.yaml").exists():
            folders = [path]
        else:
            folders = sorted(p.parent for p in path.rglob("config.yaml") if _SEED_FOLDER.match(p.parent.name))
        if not folders:
            raise DataError(
                explain(
                    expected="at least one run (…/seed<k>/config.yaml)",
                    got="none",
                    where=str(path),
                    do="start one with: python run.py",
                )
            )
        for folder in folders:
            runs.setdefault(folder.resolve(), read_run(folder))
    return list(runs.values())
