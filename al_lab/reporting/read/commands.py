"""The commands a report names: how to make this run again, and how to make the lines it lacks."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from al_lab.reporting.read.run_folder import PEOPLE, Run

_INSTALLED = ("al-lab", "__main__.py", "main.py")  # the last two: python -m al_lab, python -m al_lab.cli.main
_PROGRAMS = ("run.py", *_INSTALLED)
# What the new line chooses itself.
_NOT_SHARED = ("strategy", "seed", "name", "restart", "protocol")

NO_LINES_OF_PEOPLE = (
    "No command is given for a random line, a full-data line or more seeds: each of them is a run of its own and "
    "would ask people to label "
    "images again. On a dataset that has its labels (oracle=simulated) they cost nothing."
)


def asks_people(run: Run) -> bool:
    """Whether another run like this one would have people label images."""
    return run.choices.get("oracle") in PEOPLE


def reproduce(run: Run) -> str:
    """Return the command that made the run, or goes on with it."""
    return _command(run, _overrides(run) or [f"strategy={run.strategy}", *_dataset(run), f"seed={run.seed}"])


def changed(run: Run, *overrides: str) -> str:
    """Return the run's command with other values: another setting makes another run folder.

    Nothing where people would have to label again.
    """
    if asks_people(run):
        return ""
    left_out = {"name", "restart", *map(_key, overrides)}
    kept = _overrides(run) or [f"strategy={run.strategy}", *_dataset(run), f"seed={run.seed}"]
    return _command(run, [*(o for o in kept if _key(o) not in left_out), *overrides])


def random_line(run: Run, seeds: Sequence[int] = ()) -> str:
    """Return the command that makes the random line of the same protocol."""
    return _command(run, ["strategy=random", *_shared(run), _seeds(seeds or [run.seed])])


def full_data_line(run: Run) -> str:
    """Return the command that trains once on the whole pool."""
    shared = [o for o in _shared(run) if _key(o) != "budget" and not _key(o).startswith("budget.")]
    return _command(run, ["strategy=random", "budget=full", *shared, f"seed={run.seed}"])


def more_seeds(run: Run, seeds: Sequence[int]) -> str:
    """Return the command that repeats a run's strategy and the random line with more seeds."""
    return _command(
        run,
        [
            f"strategy={run.strategy},random" if run.strategy != "random" else "strategy=random",
            *_shared(run),
            _seeds(seeds),
        ],
    )


def _command(run: Run, overrides: Sequence[str]) -> str:
    is_sweep = any("," in o.split("=", 1)[-1] and "=[" not in o and "={" not in o for o in overrides)
    program = "al-lab" if _program(run) in _INSTALLED else "python run.py"
    return " ".join([program, *(["-m"] if is_sweep else []), *map(shlex.quote, overrides)])


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed={','.join(map(str, seeds))}"


def _shared(run: Run) -> list[str]:
    """Return the run's overrides that another strategy takes over, its protocol pinned."""
    protocol = run.config.get("protocol")
    kept = [
        o
        for o in _overrides(run) or _dataset(run)
        if _key(o) not in _NOT_SHARED and not _key(o).startswith("strategy.")
    ]
    return [*([f"protocol={protocol}"] if isinstance(protocol, str) else []), *kept]


def _dataset(run: Run) -> list[str]:
    dataset = run.choices.get("dataset")
    return [f"dataset={dataset}"] if dataset else []


def _overrides(run: Run) -> list[str]:
    """Return the words after the program as they were recorded; none where the run was not started from there."""
    recorded = run.environment.get("overrides")
    words = [str(o) for o in recorded] if isinstance(recorded, list) else []
    if not isinstance(recorded, list) and _program(run) in _PROGRAMS:
        words = str(run.environment.get("command") or "").split()[1:]
    overrides = [w for w in words if "=" in w and not w.startswith("-")]
    if not {"-m", "--multirun"} & set(words):
        return overrides
    # A sweep's command names several strategies and seeds, or its recipe does: this run was one of them.
    own = {"strategy": run.strategy, "seed": str(run.seed)}
    return [*(f"{key}={value}" for key, value in own.items()), *(o for o in overrides if _key(o) not in own)]


def _program(run: Run) -> str:
    return Path(str(run.environment.get("command") or "-").split()[0]).name


def _key(override: str) -> str:
    return override.split("=", 1)[0].lstrip("+~")
