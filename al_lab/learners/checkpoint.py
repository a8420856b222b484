"""Checkpoints: plain dictionaries of tensors and numbers, written whole or not at all, read without running code."""

import logging
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch

from al_lab.core.errors import WeightsError, explain
from al_lab.core.files import atomic_path

log = logging.getLogger(__name__)

KEYS = ("state_dict", "objective", "optimizer", "schedule", "step", "precision", "meta")
_BROKEN = (RuntimeError, EOFError, OSError, BadZipFile, pickle.UnpicklingError, ValueError, KeyError, AttributeError)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` atomically; it holds tensors and plain values only (that of a training: `KEYS`).

    Equal states give equal files. So it is written to a stream (torch puts a path's name into the archive) and from
    fresh containers (pickle writes an object that occurs twice differently from two equal ones).
    """
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        torch.save(_fresh(state), stream)


def _fresh(value: Any) -> Any:
    if isinstance(value, dict):
        return {_fresh(k): _fresh(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_fresh(v) for v in value)
    return sys.intern(value) if type(value) is str else value


def load_checkpoint(path: Path, keys: Sequence[str] = KEYS) -> dict[str, Any]:
    """Read a checkpoint onto the CPU with ``weights_only=True``; a flipped bit is noticed.

    Args:
        path: what `save_checkpoint` wrote.
        keys: what it must hold.

    Raises:
        WeightsError: if the file is missing, cut short, damaged, or not a checkpoint of ours.
    """
    if not path.is_file():
        raise WeightsError(
            explain(
                expected="a checkpoint",
                got="no such file",
                where=str(path),
                do="check the path, or run the stage that writes it again",
            )
        )
    try:
        with ZipFile(path) as archive:  # torch.load does not look at the checksums that torch.save wrote
            if (damaged := archive.testzip()) is not None:
                raise BadZipFile(f"the checksum of {damaged} is another")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except _BROKEN as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:120]
        raise WeightsError(
            explain(
                expected="a whole checkpoint of plain tensors",
                where=str(path),
                got=f"{path.stat().st_size} bytes that don't load ({reason})",
                do="delete it and run the stage that writes it again",
            )
        ) from error
    missing = [key for key in keys if not isinstance(state, dict) or key not in state]
    if missing:
        raise WeightsError(
            explain(
                expected=f"the keys {', '.join(keys)}",
                got=f"none of {', '.join(missing)}",
                where=str(path),
                do="name a checkpoint that al_lab's training wrote",
            )
        )
    return state


def read_last(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """Return the unfinished training to go on with, or None (with a warning) if the file is no use.

    Nothing but this stage's own progress can be lost here, so a broken file is named and the stage starts over.
    """
    if not path.exists():
        return None
    try:
        state = load_checkpoint(path)
    except WeightsError as error:
        log.warning("%s. Training starts over from the beginning of this stage.", error)
        return None
    if state["meta"].get("fingerprint") != fingerprint:
        log.warning("%s belongs to another training (other images, seed or settings). Training starts over.", path)
        return None
    return state


def load_weights(module: torch.nn.Module, state_dict: dict[str, torch.Tensor], source: Path) -> None:
    """Load weights strictly.

    Raises:
        WeightsError: if it was made for another number of classes, or naming the first keys or shapes that don't fit.
    """
    own = module.state_dict()
    count = state_dict.get("class_count")
    if count is not None and "class_count" in own and int(count) != int(own["class_count"]):
        raise WeightsError(
            explain(
                expected=f"a checkpoint for {int(own['class_count'])} classes",
                got=f"one for {int(count)}",
                where=str(source),
                do="train again for this dataset, or name the dataset the checkpoint was made with",
            )
        )
    missing = sorted(set(own) - set(state_dict))
    strange = sorted(set(state_dict) - set(own))
    shapes = [
        f"{k} {tuple(state_dict[k].shape)} for {tuple(v.shape)}"
        for k, v in own.items()
        if k in state_dict and state_dict[k].shape != v.shape
    ]
    if missing or strange or shapes:
        parts = [
            f"{len(keys)} {word} ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})"
            for word, keys in (("missing", missing), ("unknown", strange), ("of another shape", shapes))
            if keys
        ]
        raise WeightsError(
            explain(
                expected=f"the weights of {type(module).__name__}",
                got=", ".join(parts),
                where=str(source),
                do="use the network and the classes the checkpoint was trained with",
            )
        )
    module.load_state_dict(state_dict)
