"""What may not change when a run goes on."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from al_lab.core.budget import alpha_for
from al_lab.core.files import sha256
from al_lab.core.record.moved import first_path, present_path, with_targets

# What describes the machine, or how a command was called, but not the experiment.
FREE_KEYS = frozenset(
    {"runtime", "executor", "tracker", "name", "restart", "choices", "run_dir", "command", "overrides"}
)
# Where files lie on this machine and how many hands it has. Not a dataset's image_dir: it says which images, below its
# root.
_MACHINE_KEYS = frozenset(
    {"threads", "root", "data_dir", "cache_dir", "outputs_dir", "folder", "path", "download", "store"}
)
_BY_CONTENT = ("strategy.path", "trainer.init", "embedding")
_GROWING = ("cycles", "per_cycle")  # of the budget: more cycles continue a run
_FOR_THE_REPORT = "strategy.truth."  # what is measured after the choice, and changes nothing
_RETRIES = ".on_divergence."  # decides nothing in trainings that are done; the next ones may be begun again differently
# How people are asked, and how their files are read: what was answered stays as it was taken. The hours of a label map
# are for the report only.
_ASKING = frozenset(
    f"oracle.{key}"
    for key in (
        "tool", "wait", "poll_seconds", "void_id", "seconds_per_map", "url", "token_env", "project", "images",
        "image_base"
    )
)  # fmt: skip
# How a model that is trained elsewhere is waited for, where and how long it works.
_AROUND = frozenset(
    f"{model}.{key}"
    for model in ("detector", "segmenter")
    for key in ("wait", "poll_seconds", "images", "device", "train_minutes", "predict_minutes")
)
_READING = {"oracle.empty_is_answer": True}  # what version 0.1.0 had, for its fingerprints
# Keys that came after version 0.1.0, each with the value at which everything is as it was without the key, so that a
# run begun before goes on. Whoever adds a key to a group that decides results adds it here.
_LATER: dict[str, Any] = {
    "budget.initial_by": "random",
    "budget.cold_start.by": "centroids",
    "budget.cold_start.backbone": "squeezenet1_1",
    "budget.cold_start.weights": None,
    "budget.cold_start.input_px": 224,
    "budget.test": 0,
    "budget.leave_out": [],
    "budget.limits.tiny_px": 32,
    "budget.limits.dark": 40.0,
    "budget.limits.blurred": 0.02,
    "budget.limits.near_copies_bits": 31,
    "detector.branches": [],
    "detector.dropout": None,
    "budget.limits.near_copies_cosine": "auto",
    "embedding": None,
    "dataset.group_by": None,
    "dataset.min_gap": None,
    "objective.pairs": "alike",
    "objective.negative_ramp": None,
    "objective.class_weights": None,
    "objective.crop_hw": None,
    "trainer.tf32": True,
    "trainer.warmup_power": None,
    "strategy.agent.query": "top",
    "strategy.learning.fall_backs": "first",
    "strategy.learning.reward_of": "draw",
    "strategy.lut.batches": "uniform",
    "strategy.lut.num_clusters": 16,
    "strategy.lut.rows_from": "unlabeled",
    "strategy.lut.reward": "training",
    "strategy.lut.keep": None,
    "strategy.lut.online": 0,
    "strategy.lut.calibrate": None,
    "strategy.lut.agreement": 0.5,
    "strategy.lut.against_scratch": None,
    "strategy.lut.objectives.isd.pairs": "alike",
}
# An objective of MGRAL's rows that came later; where rows have another one, it decides nothing.
_LATER_OBJECTIVE = ("strategy.lut.objectives.negative.", "strategy.lut.objective")
# How images are cut into segments, where segments are bought; both came later.
_SEGMENTS, _BY_SEGMENT = "dataset.segments.", ("segmentation.redal.", "segmentation.d2ada.", "segmentation.badge_")
_RENAMED = {("strategy.lut.predictor", "table"): "neighbors"}  # a value, and what it was called first
_SHOWN = 80
_ABSENT = "(absent)"


def frozen(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flat part of a resolved config that decides results: ``{"trainer.lr": 0.001, …}``.

    ``budget.cycles`` and a listed ``budget.per_cycle`` are included; `config_difference` knows that they may grow.
    """
    flat = dict(_flat({k: v for k, v in config.items() if k not in FREE_KEYS}))
    if "strategy.alpha" in flat and flat["strategy.alpha"] == _alpha(flat):
        flat["strategy.alpha"] = None
    unused = None if flat.get(_LATER_OBJECTIVE[1]) == "negative" else _LATER_OBJECTIVE[0]
    target = str(flat.get("strategy._target_"))
    has_segments = flat.get("budget.unit") == "segment" or any(part in target for part in _BY_SEGMENT)
    # A list to replay and a checkpoint are known by their content, pretrained weights by their file's name: in another
    # folder they are the same. No checkpoint is the same as the key's absence.
    return {
        key: _READING.get(key, _RENAMED.get((key, str(value)), _identity(key, value)))
        for key, value in flat.items()
        if _RETRIES not in key
        and not (unused and key.startswith(unused))
        and (has_segments or not key.startswith(_SEGMENTS))
        and key not in _ASKING
        and key not in _AROUND
        and not key.startswith(_FOR_THE_REPORT)
        and not (key in _LATER and value == _LATER[key])
        and (value is not None if key in _BY_CONTENT else key.rsplit(".", 1)[-1] not in _MACHINE_KEYS)
    }


def _alpha(flat: Mapping[str, Any]) -> int | None:
    """Return what ``strategy.alpha=null`` means with this budget, so that the number is the same experiment.

    None if it can't be told.
    """
    steps, cycles = flat.get("budget.per_cycle"), flat.get("budget.cycles")
    if not isinstance(steps, list) and isinstance(cycles, int):
        steps = [steps] * cycles
    if not isinstance(steps, list) or not all(isinstance(step, int | float) for step in steps):
        return None
    # counts of pixels, the papers' 40 an image: 20, but for images of a few thousand pixels
    return alpha_for(round(sum(step for step in steps if isinstance(step, float)), 6))


def _identity(key: str, value: Any) -> Any:
    if key in _BY_CONTENT and Path(value).is_file():
        return sha256(Path(value))
    return Path(value).name if key.endswith(".weights") and isinstance(value, str) else value


def fingerprint(config: Mapping[str, Any]) -> str:
    """Return a hash of everything that must stay as it is while a run goes on (16 hex digits).

    A class counts by the path it had first, so that an experiment is the same one when its class has moved.
    """
    fixed = {
        k: v
        for k, v in frozen(with_targets(config, first_path)).items()
        if k != "budget.cycles" and not (k == "budget.per_cycle" and isinstance(v, list))
    }
    return hashlib.sha256(json.dumps(fixed, sort_keys=True, default=str).encode()).hexdigest()[:16]


def config_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return what keeps ``new`` from going on with a run started as ``old``, readable; empty: it may go on."""
    before, after = (frozen(with_targets(config, present_path)) for config in (old, new))
    return [
        f"{key}: was {_show(before.get(key, _ABSENT))}, now {_show(after.get(key, _ABSENT))}"
        for key in sorted({*before, *after})
        if before.get(key, _ABSENT) != after.get(key, _ABSENT) and not _has_grown(key, before.get(key), after.get(key))
    ]


def _has_grown(key: str, old: Any, new: Any) -> bool:
    group, _, name = key.partition(".")
    if group != "budget" or name not in _GROWING:
        return False
    if isinstance(old, list) and isinstance(new, list):
        return new[: len(old)] == old
    return name == "cycles" and isinstance(old, int) and isinstance(new, int) and new >= old


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(inner) if isinstance(inner, tuple) else inner


def _show(value: Any) -> str:
    text = value if value == _ABSENT else repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
