"""Find run folders and read them."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from al_lab.core.errors import DataError, explain
from al_lab.core.record.config_file import read_config
from al_lab.reporting.read.run_folder import Run
from al_lab.reporting.read.tidy import tidy_config, tidy_ledger, tidy_metrics

_SEED_FOLDER = re.compile(r"^seed\d+$")


def read_run(path: Path, image_folders: Sequence[Path] = ()) -> Run:
    """Read one run folder, whoever made it: nothing in it is resolved or run, and no file outside of it is opened.

    Args:
        path: of the folder.
        image_folders: whose images may be shown, besides those in the run folder itself.

    Raises:
        DataError: if the folder has no readable config.yaml; everything else that is missing or odd becomes a note.
    """
    try:
        path = path.resolve()
        if not (path / "config.yaml").resolve().is_relative_to(path):
            raise DataError(
                explain(
                    expected="a run folder with a config.yaml of its own",
                    got="a link out of the folder",
                    where=str(path / "config.yaml"),
                    do="leave this run out",
                )
            )
        config = read_config(path, DataError, "restore the file from the run's backup, or leave this run out")
    except FileNotFoundError as error:
        raise DataError(
            explain(
                expected="a run folder (one with config.yaml)",
                got="no config.yaml",
                where=str(path),
                do="name a folder below outputs/<dataset>/<strategy>/<name>/seed<k>, or one above it",
            )
        ) from error
    except (OSError, RuntimeError) as error:  # links that lead in a circle are a RuntimeError before Python 3.13
        raise DataError(
            explain(expected="a run folder", got=str(error), where=str(path), do="name another folder")
        ) from error
    run = Run(path, {}, image_folders=tuple(image_folders))
    run.config = tidy_config(config, run.note)
    run.environment = run.read_object(path / "environment.json") or {}
    run.metrics = tidy_metrics(run.read_lines(path / "metrics.jsonl"), run.note)
    run.ledger = tidy_ledger(run.read_lines(path / "ledger.jsonl"), run.note)
    return run


def find_runs(paths: Iterable[Path], image_folders: Sequence[Path] = ()) -> list[Run]:
    """Read the runs named, and every run below a folder that is none itself.

    Folders that `restart` moved aside are only read when named themselves.

    Args:
        paths: run folders, or folders above them.
        image_folders: whose images may be shown, besides those in the run folders themselves.

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
            runs.setdefault(folder.resolve(), read_run(folder, image_folders))
    return list(runs.values())
