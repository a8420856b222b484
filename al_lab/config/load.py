"""From a command line to one plain, checked configuration: schema, protocols, names, building objects."""

import dataclasses
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from al_lab.config import checks
from al_lab.config.build import build
from al_lab.config.foreign import leave_to_itself, warn_of_idle
from al_lab.config.options import CONF_DIR, option, options, task_of
from al_lab.config.parts import Parts
from al_lab.core.budget import UNITS, ColdStart, Limits
from al_lab.core.errors import ConfigError, LabError, ResumeError, did_you_mean, explain
from al_lab.core.files import write_text
from al_lab.core.record.config_file import read_config
from al_lab.core.record.fingerprint import config_difference, fingerprint
from al_lab.core.record.ledger import is_finished
from al_lab.core.record.moved import present_path, with_targets
from al_lab.core.record.run_name import first_run_name, run_folder
from al_lab.core.record.run_name import run_name as name_of

__all__ = [
    "RunConfig",
    "build",
    "check_targets",
    "choose",
    "check_sweep",
    "compose",
    "config_difference",
    "fingerprint",
    "load_config",
    "prepare",
    "run_folder",
    "name_run",
    "save_config",
    "validate",
]

log = logging.getLogger(__name__)

ABSENT = "-"  # what `choose` answers for "no option": there is no file of that name, and the entry is optional
# Overrides that do not name a run: they are in its path already, describe the machine, or let it go on (more cycles).
_NAMELESS = re.compile(
    r"(dataset|dataset\.(root|name)|strategy|seed|name|restart|budget\.cycles|oracle[./].*|.*\.on_divergence(\..*)?"
    r"|(runtime|executor|tracker|hydra)([./].*)?)"
)
# Groups that may be absent, so that Hydra does not say when an option of them does not exist.
_CHOSEN = ("detector", "segmenter", "objective", "budget", "trainer")
check_targets = checks.check_targets


# Keys that a budget has whether its yaml names them or not, so that a command can set them.
_EVERY_BUDGET: dict[str, Any] = {
    "initial_by": "random",
    "cold_start": dataclasses.asdict(ColdStart()),
    "test": 0,
    "leave_out": [],
    "limits": dataclasses.asdict(Limits()),
}


@dataclass
class RunConfig:
    """Types of the root: a misspelt key fails, in a recipe too. Values are in conf/."""

    protocol: Any = MISSING
    dataset: dict[str, Any] = MISSING
    detector: dict[str, Any] | None = None
    segmenter: dict[str, Any] | None = None
    objective: dict[str, Any] | None = None
    strategy: dict[str, Any] = MISSING
    budget: dict[str, Any] | None = field(default_factory=lambda: dict(_EVERY_BUDGET))
    trainer: dict[str, Any] | None = None
    oracle: dict[str, Any] = MISSING
    executor: dict[str, Any] = MISSING
    tracker: dict[str, Any] | None = None
    runtime: dict[str, Any] = MISSING
    seed: int = MISSING
    split_seed: int = MISSING
    name: str | None = None
    embedding: Any = None  # null: the model's own | file.npz | objects | backbone, see EmbeddingSource
    restart: Any = False  # true, false or "again"


ROOT_KEYS = tuple(f.name for f in fields(RunConfig))


# --- protocols --------------------------------------------------------------------------------------------------------


def choose(kind: str, protocol: str, strategy: str, dataset: str) -> str:
    """Pick an option of group ``kind`` from the protocol's table (a Hydra resolver: never raises, never imports torch).

    Args:
        kind: detector, branches, segmenter, objective, budget, trainer or variant; ``protocol`` for the protocol's own
            name.
        protocol: ``auto`` is the strategy's own paper, else mgral for detection and density for segmentation.
        strategy: chosen option of that group.
        dataset: chosen option of that group; one without a row of its own has the row ``default_<its task>``, else
            ``default``.

    Returns:
        The option, or "-" for none.
    """
    name = protocol
    if protocol == "auto":
        paper = option("protocol", "auto")
        name = str(paper.get(strategy) or paper.get(task_of(dataset)) or "none")
    if kind == "protocol":
        return name
    table = option("protocol", name)
    row = table.get(dataset) or table.get(f"default_{task_of(dataset)}") or table.get("default") or {}
    return str(row.get(kind) or ABSENT)


ConfigStore.instance().store(name="schema", node=RunConfig, provider="al_lab")
# At import, so that it is there wherever a config is composed: here, in a sweep's worker, in a test.
OmegaConf.register_new_resolver("choose", choose, replace=True)


# --- composing --------------------------------------------------------------------------------------------------------


def compose(overrides: Sequence[str] = (), config_dir: Path = CONF_DIR) -> dict[str, Any]:
    """Compose a configuration as ``run.py`` does.

    Plain and unchecked, with ``name`` still null unless an override gives it.

    Args:
        overrides: as on the command line.
        config_dir: folder with ``config.yaml``; ignored inside a running Hydra app, which has its own search path.
    """
    with _engine(config_dir):
        return _completed(*_composed(overrides))


def prepare(cfg: DictConfig) -> tuple[Parts, Path]:
    """Turn what ``hydra.main`` composed into a campaign's checked parts and its run folder (not created).

    Of a run that is finished, the data are not looked at.

    Raises:
        LabError: if the configuration can't run.
    """
    hydra = HydraConfig.get()
    config = _completed(_plain(cfg), hydra.runtime.choices)
    parts = validate(config)
    if hydra.mode is not None and hydra.mode.name == "MULTIRUN" and "campaigns" in config["executor"]:
        config["executor"]["campaigns"] = max(config["executor"]["campaigns"], _side_by_side(hydra.launcher))
    config["overrides"] = list(hydra.overrides.task)
    warn_of_idle(config["overrides"], config)
    run_dir = name_run(config)
    if config["restart"] or not is_finished(run_dir, config):
        checks.check_data(parts)
    return parts, run_dir


def _side_by_side(launcher: Mapping[str, Any]) -> int:
    """Return how many campaigns of a sweep this machine runs at once; a cluster's launcher has machines of its own."""
    if "submitit" in launcher["_target_"] or launcher["_target_"].endswith("BasicLauncher"):
        return 1
    side = launcher.get("n_jobs")
    return side if isinstance(side, int) and side > 0 else os.cpu_count() or 1


def name_run(config: dict[str, Any]) -> Path:
    """Name a run by those of its ``overrides`` that change the configuration, and return its folder.

    A run that has a name keeps it.

    A folder that an earlier version named otherwise is gone on with.
    """
    if config["name"] is None:
        with _engine(CONF_DIR):
            deciding = _deciding(config["overrides"])
        config["name"] = name_of(deciding)
        first = run_folder(config | {"name": first_run_name(deciding)})
        if first.is_dir() and not run_folder(config).exists():
            config["name"] = first.parent.name
    return run_folder(config)


def _composed(overrides: Sequence[str]) -> tuple[dict[str, Any], Mapping[str, Any]]:
    import hydra  # noqa: PLC0415

    cfg = hydra.compose("config", overrides=list(overrides), return_hydra_config=True)
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(cfg)  # config.yaml asks it for the chosen options
    try:
        return _plain(OmegaConf.masked_copy(cfg, [str(k) for k in cfg if k != "hydra"])), cfg.hydra.runtime.choices
    finally:
        HydraConfig.instance().cfg = before


def _plain(cfg: DictConfig) -> dict[str, Any]:
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise ConfigError(
            explain(
                expected=f"a value for {missing[0]}",
                got="none",
                where="config",
                do=f"add {missing[0]}=… to the command",
            )
        )
    value = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(value, dict)
    if "_target_" not in (value.get("budget") or ()):
        value["budget"] = None  # no option was chosen: the keys that each has say nothing
    return {str(k): v for k, v in value.items()}


@contextmanager
def _engine(config_dir: Path) -> Iterator[None]:
    from hydra import initialize_config_dir  # noqa: PLC0415
    from hydra.core.global_hydra import GlobalHydra  # noqa: PLC0415

    if GlobalHydra.instance().is_initialized():
        yield
        return
    with initialize_config_dir(str(config_dir.resolve()), version_base="1.3", job_name="al_lab"):
        yield


def _completed(config: dict[str, Any], choices: Mapping[str, Any]) -> dict[str, Any]:
    """Add the chosen options as ``choices``, and the name of a dataset that is a user's folder."""
    config = dict(with_targets(config, _present_path))
    known = {*ROOT_KEYS} | {"experiment", "debug"}
    config["choices"] = {k: None if choices[k] == ABSENT else choices[k] for k in sorted(choices) if k in known}
    config["choices"]["protocol"] = config["protocol"]
    for group in _CHOSEN:
        name = config["choices"].get(group)
        if name is not None and config.get(group) is None and name not in options(group):  # Hydra just leaves it out
            raise ConfigError(
                explain(
                    expected=f"an option of {group}",
                    got=repr(name),
                    where=f"{group}={name}",
                    do=f"write budget.unit={name}" if name in UNITS else did_you_mean(name, options(group)),
                )
            )
    leave_to_itself(config)
    _leave_out_branches(config)
    _count_milestones(config.get("trainer"))
    dataset = config["dataset"]
    if isinstance(dataset.get("root"), str):
        dataset["root"] = os.path.expanduser(dataset["root"])  # a shell leaves the ~ of key=~/photos alone
    if dataset.get("name") is None and dataset.get("root"):
        dataset["name"] = _folder_name(Path(dataset["root"]))
    return config


def _leave_out_branches(config: dict[str, Any]) -> None:
    """Take away what a protocol chose (branches, dropout) where the detector can't have it: what needs it says so."""
    detector, choices = config.get("detector"), config["choices"]
    if not detector:
        return
    known = checks.accepted_keys(str(detector.get("_target_")))
    chosen = choose("branches", config["protocol"], choices.get("strategy") or "", choices.get("dataset") or "")
    for key, value in option("detector/branches", chosen).items():
        if key not in known and detector.get(key) == value:
            del detector[key]


def _count_milestones(trainer: dict[str, Any] | None) -> None:
    """Turn milestones that are fractions of a training's length into its unit, which run folders have always named."""
    marks = (trainer or {}).get("milestones")
    if not trainer or not isinstance(marks, list) or not any(isinstance(m, float) and 0 < m < 1 for m in marks):
        return
    iters, epochs = trainer.get("max_iters"), trainer.get("max_epochs")
    length = iters if epochs is None else epochs
    if isinstance(length, int | float) and not isinstance(length, bool):
        is_whole = epochs is None or float(length).is_integer()
        counted = [m * length if isinstance(m, float) and 0 < m < 1 else m for m in marks]
        counted = [round(m) if is_whole and m >= 1 else m for m in counted]
        trainer["milestones"] = sorted({m for m in counted if 0 < m < length and (m >= 1 or epochs is not None)})


@cache
def _present_path(target: str) -> str:
    present = present_path(target)
    if present != target:
        log.warning("%s has moved: write _target_: %s", target, present)
    return present


def _folder_name(root: Path) -> str:
    """Name a user's dataset by its folder; two folders of one name stay apart."""
    path = root.resolve()
    word = re.sub(r"[^a-z0-9_]+", "-", path.name.lower()).strip("-") or "folder"
    return f"{word}-{hashlib.sha256(str(path).encode()).hexdigest()[:4]}"


def _deciding(overrides: Sequence[str]) -> dict[str, Any]:
    """Return those overrides that change the composed configuration, key to value."""
    from hydra.core.override_parser.overrides_parser import OverridesParser  # noqa: PLC0415

    parsed = {o.get_key_element().lstrip("+"): o for o in OverridesParser.create().parse_overrides(list(overrides))}
    kept = dict(parsed)
    named = [k for k in parsed if not _NAMELESS.fullmatch(k.split("@")[0])]
    whole = _composed(overrides)[0] if named else {}
    for key in named:
        rest = [str(o.input_line) for k, o in kept.items() if k != key]
        try:
            is_default = _composed(rest)[0] == whole
        except (HydraException, OmegaConfBaseException, LabError):  # without it nothing composes: it tells a lot
            is_default = False
        if is_default:
            del kept[key]
    return {k: kept[k].value() for k in named if k in kept}


def check_sweep(overrides: Sequence[str], params: Mapping[str, str] | None = None) -> list[list[str]]:
    """Check every job of a sweep before the first one starts.

    Args:
        overrides: of ``-m``, sweeps included.
        params: a recipe's ``hydra.sweeper.params``.

    Returns:
        The overrides of each job, in Hydra's order.

    Raises:
        LabError: for a job that can't run, or strategies that would be compared under different protocols.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # noqa: PLC0415
    from hydra.core.override_parser.overrides_parser import OverridesParser  # noqa: PLC0415

    given = [*(f"{k}={v}" for k, v in (params or {}).items()), *overrides]
    jobs = [
        list(job)
        for batch in BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(given), None)
        for job in batch
    ]
    protocols: dict[str, dict[str, str]] = {}  # dataset -> protocol -> one of its strategies
    opened: dict[str, Parts] = {}  # by their dataset's node: one that all jobs share is indexed once
    for job in {tuple(o for o in job if not o.startswith("seed=")): job for job in jobs}.values():
        plain, choices = _composed(job)
        config = _completed(plain, choices)
        parts = validate(config)
        shared = opened.setdefault(json.dumps(config["dataset"], sort_keys=True, default=str), parts)
        checks.check_data(parts, shared)
        if choices["protocol"] == "auto":
            protocols.setdefault(choices["dataset"], {}).setdefault(config["protocol"], choices["strategy"])
    for dataset, found in protocols.items():
        if len(found) > 1:
            each = ", ".join(f"{strategy} under {protocol}" for protocol, strategy in found.items())
            raise ConfigError(
                explain(
                    expected="strategies that are compared under one protocol",
                    got=each,
                    where=f"sweep on dataset {dataset!r}",
                    do=f"pin it: add {' or '.join(f'protocol={p}' for p in found)}",
                )
            )
    return jobs


# --- checking, saving -------------------------------------------------------------------------------------------------


def validate(config: Mapping[str, Any]) -> Parts:
    """Refuse a configuration that can't run, before anything is created, and without torch or the data.

    Returns:
        The campaign's objects, of which the budget is built; `checks.check_data` looks at the data's own files.

    Raises:
        LabError: with the place, what was expected and what to do.
    """
    parts = Parts(config)
    checks.check_root(config, ROOT_KEYS)
    check_targets(config)
    checks.check_kinds({k: v for k, v in config.items() if k not in checks.CHECK_THEMSELVES})
    checks.check_fields(parts)
    checks.check_kinds(config)
    return parts


def save_config(config: Mapping[str, Any], run_dir: Path) -> None:
    """Write the resolved configuration into a run's folder."""
    write_text(run_dir / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(dict(config))))


def load_config(run_dir: Path) -> dict[str, Any]:
    """Read what `save_config` wrote.

    Raises:
        ResumeError: if the file is not there or is no mapping in plain yaml.
    """
    do = "restore the file, or use restart=again"
    try:
        return read_config(run_dir, ResumeError, do)
    except FileNotFoundError as error:
        where = str(run_dir / "config.yaml")
        raise ResumeError(
            explain(expected="the configuration of a run", got="no such file", where=where, do=do)
        ) from error
