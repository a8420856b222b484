"""What a run is called, and where its folder is."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_LONGEST = 48
_LONGEST_FIRST = 80
# A key and a value that can stand in a name as they are: no shell, Hydra or file system reads anything into them.
_KEY = re.compile(r"[a-z_][a-z0-9_.]*")
_VALUE = re.compile(r"[a-z0-9_.]+")


def run_name(overrides: Mapping[str, Any]) -> str:
    """Name a run by its overrides: short, to be typed or pasted anywhere; two different sets never share a name.

    Args:
        overrides: key to parsed value; an experiment stands first, by its bare name.

    Returns:
        ``default`` for none; else words joined by single dashes, ``bccd`` or ``trainer.max_iters-7-detector-tiny``.
        Where that would be long, or something had to be replaced, ``--`` and a hash of the exact overrides follow.
    """
    if not overrides:
        return "default"
    ordered = sorted(overrides.items(), key=lambda kv: (kv[0] != "experiment", kv[0]))
    words = [(k, v if isinstance(v, str) else json.dumps(v, sort_keys=True, default=str)) for k, v in ordered]
    name = "-".join(v if k == "experiment" else f"{k}-{v}" for k, v in words)
    is_plain = all(
        _VALUE.fullmatch(word)
        and (_KEY.fullmatch(word) if key == "experiment" else _KEY.fullmatch(key))
        # the word 1 is not the number
        and not (isinstance(overrides[key], str) and _is_json(word))
        for key, word in words
    )
    if is_plain and name != "default" and len(name) <= _LONGEST:
        return name
    readable = re.sub(r"[^\w.]+", "-", name, flags=re.ASCII).strip("-.")[: _LONGEST - 10].rstrip("-.") or "run"
    return f"{readable}--{_digest(overrides)}"


def first_run_name(overrides: Mapping[str, Any]) -> str:
    """Return the name that a run of the same overrides had in version 0.1.0, whose folders are found by it."""
    if not overrides:
        return "default"
    words = {k: v if isinstance(v, str) else json.dumps(v, sort_keys=True, default=str) for k, v in overrides.items()}
    exact = [
        w if k == "experiment" else f"{k}={w}"
        for k, w in sorted(words.items(), key=lambda kv: (kv[0] != "experiment", kv[0]))
    ]
    text = ",".join(exact)
    name = re.sub(r"[^\w.=,+-]+", "-", text, flags=re.ASCII)
    # A comma or an equals sign inside a value could imitate another set of overrides, the word 1 the number.
    is_ambiguous = (
        name != text
        or text == "default"
        or name.startswith(".")
        or any(set(",=~") & set(w) for w in words.values())
        or any(isinstance(v, str) and _is_json(v) for v in overrides.values())
    )
    if is_ambiguous or len(name) > _LONGEST_FIRST:
        name = f"{name.lstrip('.')[: _LONGEST_FIRST - 9].rstrip('.,-')}~{_digest(overrides)}"
    return name


def _digest(overrides: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(overrides, sort_keys=True, default=str).encode()).hexdigest()[:8]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def run_folder(config: Mapping[str, Any]) -> Path:
    """Return ``<outputs_dir>/<dataset.name>/<strategy>/<name>/seed<k>`` of a resolved config."""
    return Path(
        config["runtime"]["outputs_dir"],
        config["dataset"]["name"],
        config["choices"]["strategy"],
        config["name"],
        f"seed{config['seed']}",
    )
