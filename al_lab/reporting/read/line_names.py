"""What the lines of a page are called, and in which settings their methods differ."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from al_lab.core.record.fingerprint import frozen
from al_lab.reporting.read.run_folder import Run

# The groups that change results. The word `protocol` itself is left out: what it picked is in these groups.
GROUPS = ("dataset", "detector", "segmenter", "objective", "budget", "trainer")
FULL_DATA, NO_LABELS = "full data", "no target label"
LEVELS = (FULL_DATA, NO_LABELS)  # lines of one point
_MAX_WORDS = 3
_MAX_VALUE = 24  # characters of a setting's value in a label

# One line: its strategy (or FULL_DATA) and one of its runs.
Line = tuple[str, Run]


def objective_of(run: Run) -> str:
    """Return the name of what the run's training minimizes, "" if its config doesn't say."""
    node = run.config.get("objective")
    target = str(node.get("_target_", "")) if isinstance(node, dict) else ""
    return str(run.choices.get("objective") or target.rsplit(".", 1)[-1].lower())


def is_supervised(run: Run) -> bool:
    """Whether the run trains on human labels alone."""
    return objective_of(run) in ("", "supervised")


def is_below(key: str, above: Sequence[str]) -> bool:
    """Whether a dotted key is one of ``above`` or lies below it."""
    return any(key == a or key.startswith(f"{a}.") for a in above)


def line_labels(lines: Sequence[Line], compared: Sequence[str]) -> list[str]:
    """Name every line by its strategy and by what sets it apart.

    Objective, settings compared, its own options, at last the run's name.

    A whole group that is compared (``budget``) is named by its file (``2.2pct``), if that says all.
    """
    flats, objectives = _flats(lines), [objective_of(run) for _, run in lines]
    others = [key for key in compared if key != "objective"]
    words: list[list[str]] = []
    curves = [flat for (strategy, _), flat in zip(lines, flats, strict=True) if strategy not in LEVELS]
    named = [key for key in others if _is_named(key, lines)]
    for (strategy, run), flat, objective in zip(lines, flats, objectives, strict=True):
        mine = [objective] if len(set(objectives)) > 1 and objective not in ("", strategy) else []
        mine += _settings(flat, [f for f, o in zip(flats, objectives, strict=True) if o == objective], ("objective",))
        if strategy in LEVELS:
            mine += _settings(flat, flats, [key for key in others if not is_below(key, ("budget",))])
        else:
            mine += [run.choices[key] for key in named] + _settings(
                flat, curves, [key for key in others if key not in named]
            )
            mine += _settings(
                flat, [f for f, line in zip(flats, lines, strict=True) if line[0] == strategy], ("strategy",)
            )
        words.append(mine if len(mine) <= _MAX_WORDS else [*mine[:_MAX_WORDS], "…"])
    labels = [_label(strategy, mine) for (strategy, _), mine in zip(lines, words, strict=True)]
    counts = Counter(labels)
    return [
        label if counts[label] == 1 else _label(strategy, [*mine, run.name])
        for label, (strategy, run), mine in zip(labels, lines, words, strict=True)
    ]


def differing(lines: Sequence[Line], compared: Sequence[str]) -> dict[str, list[Any]]:
    """Return the settings in which lines differ, key -> one value a line (None where a line has no such setting).

    Of the strategies only those options that one strategy has in two variants.
    """
    flats = _flats(lines)
    columns: dict[str, list[Any]] = {}
    objectives = [objective_of(run) for _, run in lines]
    if len(set(objectives)) > 1:
        columns["objective"] = list(objectives)
    keys = _differing(flats, compared)
    for strategy in dict.fromkeys(name for name, _ in lines if name not in LEVELS):
        keys += _differing(
            [flat for flat, (name, _) in zip(flats, lines, strict=True) if name == strategy], ("strategy",)
        )
    return columns | {key: [flat.get(key) for flat in flats] for key in dict.fromkeys(keys)}


def _is_named(group: str, lines: Sequence[Line]) -> bool:
    """Whether the files chosen for a group tell the lines' settings in it apart.

    One file must not stand for two settings.
    """
    settings: dict[Any, set[str]] = {}
    for strategy, run in lines:
        if strategy not in LEVELS:
            settings.setdefault(run.choices.get(group), set()).add(repr(frozen({group: run.config.get(group)})))
    return (
        "." not in group
        and None not in settings
        and len(settings) > 1
        and all(len(found) == 1 for found in settings.values())
    )


def _flats(lines: Sequence[Line]) -> list[dict[str, Any]]:
    return [frozen({g: run.config.get(g) for g in (*GROUPS, "strategy")}) for _, run in lines]


def _differing(flats: Sequence[dict[str, Any]], below: Sequence[str]) -> list[str]:
    keys = dict.fromkeys(k for flat in flats for k in flat if is_below(k, below) and not k.endswith("_target_"))
    return [k for k in keys if len({repr(flat.get(k)) for flat in flats}) > 1]


def _settings(flat: dict[str, Any], peers: Sequence[dict[str, Any]], below: Sequence[str]) -> list[str]:
    """Return ``key=value`` of what differs among the peers; the hash of a file is no word for a label."""
    return [
        f"{k.rsplit('.', 1)[-1]}={_value(flat[k])}"
        for k in _differing(peers, below)
        if k in flat and not k.endswith(".path")
    ]


def _value(value: Any) -> str:
    is_words = isinstance(value, list) and value and all(isinstance(word, str) for word in value)
    text = "+".join(value) if is_words else value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _MAX_VALUE else text[: _MAX_VALUE - 1] + "…"


def _label(strategy: str, words: Sequence[str]) -> str:
    return f"{strategy} ({', '.join(words)})" if words else strategy
