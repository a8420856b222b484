"""A run's ``config.yaml``: plain data, whoever wrote it."""

from pathlib import Path
from typing import Any

import yaml

from al_lab.core.disk import read_text
from al_lab.core.errors import LabError, explain
from al_lab.core.record.moved import present_path, with_targets

_MAX_BYTES = 4_000_000
_MAX_DEPTH = 60
# The C reader is ten times faster; a report may look at hundreds of neighbors.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_config(run_dir: Path, error: type[LabError], do: str) -> dict[str, Any]:
    """Read the configuration of a run; nothing in it is resolved, built or repeated.

    Our own writer resolves everything and repeats nothing by reference, so text such as ``${oc.env:HOME}`` stays text,
    and aliases, of which a few lines can stand for gigabytes, are refused. Classes that have moved since are named
    where they are now.

    Args:
        run_dir: the run's folder.
        error: what is raised for all but a missing file.
        do: the remedy.

    Raises:
        FileNotFoundError: if there is none.
        LabError: as ``error``, if the file is no mapping in plain yaml.
    """
    path = run_dir / "config.yaml"
    text = read_text(path, _MAX_BYTES, "the configuration of a run", error)
    try:
        _check_events(text)
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, OverflowError) as cause:
        got = " ".join((str(cause) or type(cause).__name__).split())[:200]
        raise error(explain(expected="plain yaml", got=got, where=str(path), do=do)) from cause
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        got = "keys that are no names" if isinstance(value, dict) else type(value).__name__
        raise error(explain(expected="a mapping of settings", got=got, where=str(path), do=do))
    return dict(with_targets(value, present_path))


def _check_events(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"an alias (*{event.anchor}), which could stand for any amount of text")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise ValueError(f"more than {_MAX_DEPTH} levels")
