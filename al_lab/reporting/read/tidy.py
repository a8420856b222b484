"""What a page can rely on in the configuration, the metrics and the ledger of a run, whoever wrote them.

The rest is noted.
"""

from collections.abc import Callable
from typing import Any

from al_lab.core import fields
from al_lab.core.fields import WrongValueError, shown

Note = Callable[[str], None]

_MAPPINGS = (
    "dataset",
    "detector",
    "segmenter",
    "objective",
    "strategy",
    "budget",
    "trainer",
    "oracle",
    "executor",
    "runtime",
    "tracker",
    "choices",
)
_MAX_CYCLES = 100_000
_MAX_DEPTH = 30
_initial: fields.Kind[Any] = fields.Kind(
    "a number >= 0, or annotated", lambda value: value if value == "annotated" else fields.not_negative.read(value)
)
_KINDS: dict[str, fields.Kind[Any]] = {
    "seed": fields.integer,
    "split_seed": fields.integer,
    "name": fields.text,
    "protocol": fields.text,
    "dataset.name": fields.text,
    "dataset.metrics": fields.list_of(fields.text),
    "budget.unit": fields.text,
    "budget.initial": _initial,
    "budget.cycles": fields.between(0, _MAX_CYCLES),
    "strategy.path": fields.text,
    "trainer.init": fields.text,
    "choices": fields.mapping_of(fields.optional(fields.text)),
}


def tidy_config(config: dict[str, Any], note: Note) -> dict[str, Any]:
    """Return the configuration without what a page can't read.

    Groups that are no mappings, settings of another kind.
    """
    left_out = "config.yaml: {}: expected {}, got {}; it is left out."
    kept: dict[str, Any] = {}
    for key, value in config.items():
        if key in _MAPPINGS and value is not None and not isinstance(value, dict):
            note(left_out.format(key, "a group of settings", shown(value)))
        else:
            kept[key] = _plain(value, _MAX_DEPTH)
    for dotted, kind in _KINDS.items():
        group, _, name = dotted.rpartition(".")
        node = kept.get(group) if group else kept
        if not isinstance(node, dict) or node.get(name) is None:
            continue
        try:
            kind.read(node[name])
        except WrongValueError as wrong:
            note(left_out.format(dotted + wrong.place, wrong.expected, wrong.got))
            node[name] = None
    return kept


def tidy_metrics(rows: list[dict[str, Any]], note: Note) -> list[dict[str, Any]]:
    """Return one row a cycle, ascending, with the finite numbers of the last line of each."""
    cycle_of = fields.between(0, _MAX_CYCLES, "a cycle")
    found: dict[int, dict[str, Any]] = {}
    for row in rows:
        try:
            cycle = cycle_of.read(row.get("cycle"))
        except WrongValueError as wrong:
            note(f"metrics.jsonl: expected {wrong.expected}, got {wrong.got}; that line is left out.")
            continue
        numbers = _numbers(row, f"metrics.jsonl: cycle {cycle}", note)
        found[cycle] = {**numbers, "cycle": cycle}
    return [found[c] for c in sorted(found)]


def tidy_ledger(rows: list[dict[str, Any]], note: Note) -> list[dict[str, Any]]:
    """Return the committed stages: cycle, stage and seconds where they are what they should be, numbers in scalars."""
    kinds: dict[str, fields.Kind[Any]] = {
        "cycle": fields.between(-1, _MAX_CYCLES, "a cycle"),
        "stage": fields.text,
        "seconds": fields.not_negative,
    }
    found = []
    for number, row in enumerate(rows, start=1):
        entry, scalars = dict(row), row.get("scalars")
        where = f"ledger.jsonl: entry {number}"
        for key, kind in kinds.items():
            try:
                if key in entry:
                    entry[key] = kind.read(entry[key])
            except WrongValueError as wrong:
                note(f"{where}: {key}: expected {wrong.expected}, got {wrong.got}; it is left out.")
                del entry[key]
        entry["scalars"] = _numbers(scalars, where, note) if isinstance(scalars, dict) else {}
        found.append(entry)
    return found


def _numbers(row: dict[str, Any], where: str, note: Note) -> dict[str, Any]:
    kept = {}
    for key, value in row.items():
        is_missing = value is None or (isinstance(value, float) and value != value)  # noqa: PLR0124 - NaN
        try:
            if not is_missing:
                fields.number.read(value)
                kept[key] = value
        except WrongValueError as wrong:
            note(f"{where}: {shown(key)}: expected {wrong.expected}, got {wrong.got}; it is left out.")
    return kept


def _plain(value: Any, depth: int) -> Any:
    """Return what JSON could hold too: yaml also knows dates, sets and bytes."""
    if isinstance(value, dict):
        return {str(k): _plain(v, depth - 1) for k, v in value.items()} if depth else shown(value)
    if isinstance(value, list | tuple):
        return [_plain(v, depth - 1) for v in value] if depth else shown(value)
    return value if value is None or isinstance(value, str | int | float) else shown(value)
