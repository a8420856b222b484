"""What must hold between the parts of a configuration, checked before anything is created or torch is imported."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from al_lab.config.embedding import EmbeddingSource, no_objects
from al_lab.config.fitting import needs_of, provides_of
from al_lab.config.foreign import check_foreign, is_foreign, remaining
from al_lab.config.kinds import check_values
from al_lab.config.options import datasets_for, every, option, options
from al_lab.config.parts import Parts
from al_lab.config.runtime import check_runtime
from al_lab.config.signatures import HYDRA_KEYS, check_call, defines, literal_of, signature_of
from al_lab.core.budget import PARTS, Budget
from al_lab.core.errors import ConfigError, DataError, did_you_mean, explain

# Arguments that the program passes when it builds the object, so a config need not have them.
RUNTIME_KEYS: dict[str, tuple[str, ...]] = {
    "detector": ("num_classes", "dataset"),
    "segmenter": ("num_classes", "dataset"),
}
# Keys of a resolved config that no schema holds, because the program adds them.
_ADDED = ("choices", "overrides")
# Groups whose classes know more of their numbers than a kind does: they speak first.
CHECK_THEMSELVES = ("budget", "trainer")
_TASK_OF_MODEL = {"detector": "detection", "segmenter": "segmentation"}
_SEEDS = ("seed", "split_seed")


def check_root(config: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse unknown keys at the root, and values there that would become folder names but can't.

    Raises:
        ConfigError: naming the key.
    """
    for key in config:
        if key not in known and key not in _ADDED:
            raise ConfigError(
                explain(
                    expected="a key of the configuration's root",
                    got=repr(key),
                    where="config",
                    do=did_you_mean(key, known),
                )
            )
    for key in _SEEDS:
        if not isinstance(config[key], int) or isinstance(config[key], bool) or config[key] < 0:
            raise ConfigError(
                explain(
                    expected="a whole number >= 0 (0 is a seed)", got=repr(config[key]), where=key, do=f"e.g. {key}=0"
                )
            )
    restart = config.get("restart", False)
    if not isinstance(restart, bool) and restart != "again":
        raise ConfigError(
            explain(
                expected="false, true or again",
                got=repr(restart),
                where="restart",
                do="restart=true sets an existing run aside once, so that the same command can go on; "
                "restart=again each time",
            )
        )
    for key, word in (("name", config["name"]), ("dataset.name", config["dataset"].get("name"))):
        if word is None and key == "name":  # it is made of the overrides later
            continue
        if not isinstance(word, str) or not word or "/" in word or "\\" in word or word.startswith("."):
            raise ConfigError(
                explain(
                    expected="a word that can be a folder's name",
                    got=repr(word),
                    where=key,
                    do=f"give {key} without slashes and not beginning with a dot",
                )
            )


def check_targets(config: Mapping[str, Any]) -> None:
    """Check the keys of every node that has a ``_target_``, at any depth, against the signature it will be called with.

    Nothing is imported: signatures are read from source. ``_partial_`` nodes are checked for unknown keys too.

    Raises:
        ConfigError: for a target that does not exist, an unknown key, a missing one.
    """
    for group, node in config.items():
        _check_node(node, group, RUNTIME_KEYS.get(group, ()))


def _check_node(node: Any, where: str, injected: Iterable[str] = ()) -> None:
    if isinstance(node, Mapping):
        if "_target_" in node and not node.get("_args_"):
            check_call(
                node["_target_"],
                [k for k in node if k not in HYDRA_KEYS],
                where=where,
                injected=injected,
                is_partial=bool(node.get("_partial_")),
            )
        for key, inner in node.items():
            _check_node(inner, f"{where}.{key}")
    elif isinstance(node, list | tuple):
        for position, inner in enumerate(node):
            _check_node(inner, f"{where}[{position}]")


def check_kinds(config: Mapping[str, Any]) -> None:
    """Check the values of every node, at any depth, against the annotations of the arguments they become.

    What other packages annotate, they may mean otherwise: only ours is checked.

    Raises:
        ConfigError: naming the key.
    """
    for where, node in _nodes(config, ""):
        target = node["_target_"]
        signature = signature_of(target) if isinstance(target, str) and target.startswith("al_lab.") else None
        if signature is not None:
            check_values(signature.annotations, node, where)


def _nodes(value: Any, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each node that has a ``_target_``, and its place."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            yield where, value
        for key, inner in value.items():
            yield from _nodes(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list | tuple):
        for position, inner in enumerate(value):
            yield from _nodes(inner, f"{where}[{position}]")


def accepted_keys(target: str) -> tuple[str, ...]:
    """Return the arguments of a target; nothing if they can't be told."""
    try:
        signature = signature_of(target)
    except ConfigError:
        return ()
    return () if signature is None else signature.names


def check_fields(parts: Parts) -> None:
    """Check what several groups must agree on; nothing is built but the budget and the training's numbers.

    Raises:
        ConfigError: for groups that don't fit.
    """
    config = parts.config
    check_runtime(config["runtime"])
    _check_task(config)
    model = _check_model(config)
    brings_its_training = defines(config[model]["_target_"], "fit")  # a foreign framework, with its own losses
    for key in ("budget", "trainer") if brings_its_training else ("objective", "budget", "trainer"):
        if not config.get(key):
            _refuse_missing(config, key)
    if not brings_its_training:
        _check_objective(config, model)
    _check_strategy(config, model)
    check_foreign(config, model)
    if is_generated(config["dataset"]):  # its size is known before it is drawn
        parts.budget.check_against(config["dataset"]["num_pool"])
    if config["trainer"].get("augmentation"):  # it alone would import torch: the numbers are checked without it
        parts.build("trainer", {**config["trainer"], "augmentation": None})
    else:
        _ = parts.settings


def _refuse_missing(config: Mapping[str, Any], key: str) -> None:
    chosen = config["choices"]
    raise ConfigError(
        explain(
            expected=f"an option of {key}",
            got="none",
            where=f"protocol {chosen['protocol']!r} on dataset {chosen['dataset']!r}",
            do=f"choose one with {key}=… (--help lists them), or another protocol=…",
        )
    )


def _check_task(config: Mapping[str, Any]) -> None:
    """Refuse a strategy that is not for the dataset's task; it is said first, as it decides what all else should be."""
    chosen, tasks = config["choices"], every(config["strategy"], "tasks", ("detection",))
    task = _task_of(config)
    if task in tasks:
        return
    fitting = datasets_for(tuple(tasks))
    advice = f"use dataset={fitting[0]} (or {', '.join(fitting[1:])})" if fitting else "use another dataset=…"
    raise ConfigError(
        explain(
            expected=f"a strategy for {task}, as dataset {chosen['dataset']!r} is a {task} dataset",
            got=f"{chosen['strategy']!r}, for {' and '.join(tasks)}",
            where="strategy",
            do=f"{advice}, or choose another strategy=…",
        )
    )


def _task_of(config: Mapping[str, Any]) -> str:
    return str(literal_of(config["dataset"]["_target_"], "task", "detection"))


def _check_model(config: Mapping[str, Any]) -> str:
    """Return which of detector and segmenter the run has: exactly one, and it fits the dataset."""
    given = [key for key in _TASK_OF_MODEL if config.get(key)]
    task = _task_of(config)
    fitting = next(key for key, solves in _TASK_OF_MODEL.items() if solves == task)
    if not given:
        _refuse_missing(config, fitting)
    if len(given) > 1:
        raise ConfigError(
            explain(
                expected="a detector or a segmenter",
                got="both",
                where="config",
                do=f"a {task} dataset needs a {fitting}; add ~{next(g for g in given if g != fitting)}",
            )
        )
    if given[0] != fitting:
        chosen = config["choices"]
        got = f"{given[0]}={chosen.get(given[0])}, which solves {_TASK_OF_MODEL[given[0]]}"
        raise ConfigError(
            explain(
                expected=f"a {fitting}",
                got=got,
                where=f"dataset {chosen['dataset']!r} is a {task} dataset",
                do=f"use {fitting}=… and ~{given[0]}, or another dataset=…",
            )
        )
    return fitting


def _check_objective(config: Mapping[str, Any], model: str) -> None:
    """Refuse a loss that trains the other kind of model; one that doesn't say which it trains is let through."""
    task, solves = _TASK_OF_MODEL[model], literal_of(config["objective"]["_target_"], "task", None)
    if solves not in (None, task):
        raise ConfigError(
            explain(
                expected=f"an objective for {task}",
                got=f"{config['choices'].get('objective')!r}, for {solves}",
                where="objective",
                do="e.g. objective=segment" if task == "segmentation" else "e.g. objective=supervised",
            )
        )
    _check_share(config)
    needs = literal_of(config["objective"]["_target_"], "needs", ())
    provides = literal_of(config[model]["_target_"], "provides", None)
    lacking = [word for word in needs if word not in (provides or ())]
    if provides is None or not lacking:
        return
    remain = [name for name in options("objective") if _trains(option("objective", name), task, provides)]
    raise ConfigError(
        explain(
            expected=f"a {model} with {', '.join(lacking)} (objective {config['choices'].get('objective')!r} needs it)",
            got=f"{config['choices'].get(model)!r}, which has none",
            where="objective",
            do=f"what remains: objective={' or '.join(remain)}; or choose another {model}=…",
        )
    )


def _check_share(config: Mapping[str, Any]) -> None:
    """Refuse fewer images a device and step than the objective compares."""
    least = literal_of(config["objective"]["_target_"], "least_on_device", 1)
    batch, devices = config["trainer"].get("batch_size"), config["runtime"].get("devices", 1)
    if not (isinstance(batch, int) and isinstance(devices, int) and devices) or batch // devices >= least:
        return
    name, one = config["choices"].get("objective"), "" if devices == 1 else f" on {devices} devices"
    raise ConfigError(
        explain(
            expected=f"{least} labeled images or more a device and step (objective {name!r} compares them)",
            got=f"a batch of {batch}{one}",
            where="trainer.batch_size",
            do=f"set trainer.batch_size={least * devices} or more"
            + ("" if devices == 1 else ", or runtime.devices to fewer"),
        )
    )


def _trains(objective: Mapping[str, Any], task: str, provides: Sequence[str]) -> bool:
    target = objective.get("_target_")
    if not isinstance(target, str) or literal_of(target, "task", None) != task:
        return False
    return set(literal_of(target, "needs", ())) <= set(provides)


def _check_strategy(config: Mapping[str, Any], model: str) -> None:
    target, chosen = config["strategy"]["_target_"], config["choices"]
    name, task, unit = chosen["strategy"], _TASK_OF_MODEL[model], config["budget"].get("unit", "image")
    if task == "detection" and unit in PARTS:
        raise ConfigError(
            explain(
                expected="image or box",
                got=repr(unit),
                where="budget.unit",
                do="pixels, regions and segments are bought with a segmenter; detectors are trained on whole images",
            )
        )
    units = every(config["strategy"], "units", ("image", "box"))
    if unit not in units:
        raise ConfigError(
            explain(
                expected=f"one of {', '.join(units)}, which strategy {name!r} can spend",
                got=repr(unit),
                where="budget.unit",
                do=f"set budget.unit={units[0]} or choose another strategy=…",
            )
        )
    needs, scope = needs_of(config["strategy"], unit), config["budget"].get("scope", "pool")
    if unit in PARTS:
        scopes = literal_of(target, "pixel_scopes", ("pool", "image"))
        if scope not in scopes:
            raise ConfigError(
                explain(
                    expected=f"{' or '.join(scopes)}, how strategy {name!r} counts {unit}s",
                    got=repr(scope),
                    where="budget.scope",
                    do=f"set budget.scope={scopes[0]} or choose another strategy=…",
                )
            )
    provides = provides_of(config[model])
    lacking = set(needs) - set(provides or ()) - _from_elsewhere(config, model, provides)
    if provides is not None and lacking:
        others = f" (what remains: {remaining(config, model)})" if is_foreign(config[model]) else ""
        raise ConfigError(
            explain(
                expected=f"a {model} that provides {', '.join(sorted(lacking))} (strategy {name!r} needs it)",
                got=f"{chosen.get(model)!r}, which provides {', '.join(provides)}",
                where=model,
                do=f"{_settings_for(config, model, lacking)}choose another {model}=… or strategy=…{others}",
            )
        )


def _settings_for(config: Mapping[str, Any], model: str, lacking: set[str]) -> str:
    """Say which settings of a model would add what it lacks, such as a branch or dropout; "" if none would."""
    more = literal_of(config[model]["_target_"], "provides_with", {})
    found = [
        f"{model}.{key} ({value})"
        for key, by_value in more.items()
        for value, words in by_value.items()
        if lacking & set(words)
    ]
    if not found:
        return ""
    own = option("protocol", "auto").get(config["choices"]["strategy"])
    hint = f" (protocol={own} does)" if own not in (None, config["choices"]["protocol"]) else ""
    return f"set {' or '.join(found)}{hint}, or "


def _from_elsewhere(config: Mapping[str, Any], model: str, provides: Sequence[str] | None) -> set[str]:
    """Return what need not come from the model itself.

    Raises:
        ConfigError: for an embedding that can't be.
    """
    source = EmbeddingSource.read(config.get("embedding"))
    if source is None:
        return set()
    if source.kind == "objects" and provides is not None and "box_embedding" not in provides:
        got = f"{config['choices'].get(model)!r}, which provides {', '.join(provides)}"
        raise no_objects(f"a {model} that provides box_embedding", got)
    return {"image_embedding"}


def is_generated(dataset: Mapping[str, Any]) -> bool:
    """Whether a dataset is drawn, at its first use."""
    return isinstance(dataset.get("num_pool"), int)


def check_data(parts: Parts, opened: Parts | None = None) -> None:
    """Hold the plan against the data's own files; data that are still to be drawn need no look.

    Args:
        parts: of the campaign.
        opened: those of another campaign with the same dataset, which is taken from there.

    Raises:
        DataError: if the dataset is not where it should be, or has no labels to reveal.
        ConfigError: if more would be bought than there is.
    """
    if is_generated(parts.config["dataset"]):
        return
    if opened is not None:
        parts.dataset = opened.dataset
    dataset, oracle = parts.dataset, parts.config["oracle"]["_target_"]
    # a test set that is bought comes out of the pool, unless there are unlabeled images for it
    parts.budget.check_against(len(dataset.pool_ids) - (0 if dataset.test_ids else parts.budget.test))
    if dataset.apart is not None:
        _check_gap(parts.budget, dataset.apart.most(dataset.pool_ids), len(dataset.pool_ids))
    if opened is None and (found := dataset.blockers()):
        rest = f" (and {len(found) - 1} more; al-lab data verify names all)" if len(found) > 1 else ""
        raise DataError(f"{found[0].file}: {found[0].message}{rest}; {found[0].remedy}")
    has_labels = any(map(dataset.has_truth, dataset.pool_ids))
    if literal_of(oracle, "needs_truth", True) and not has_labels:
        raise DataError(
            explain(
                expected="labels of the pool, for the simulated oracle to reveal",
                got="no annotation at all",
                where=f"dataset {dataset.name!r}",
                do="use oracle=folder: it asks people for the labels of the images it wants",
            )
        )
    if parts.budget.initial_images(len(dataset.pool_ids)) is None and not has_labels:
        raise DataError(
            explain(
                expected="images of the pool that are annotated already",
                got="none",
                where=f"budget.initial={parts.budget.initial} on dataset {dataset.name!r}",
                do="give a number of images to label first, such as budget.initial=50",
            )
        )


def _check_gap(budget: Budget, most: int, pool_size: int) -> None:
    """Refuse a purchase of more images than are far enough from each other in their groups.

    Raises:
        ConfigError: with the largest number.
    """
    amounts = {"budget.initial": budget.initial_images(pool_size) or 0}
    if budget.unit == "image":
        amounts["budget.per_cycle"] = max(
            (budget.allowance(c, pool_size).amount for c in range(budget.cycles)), default=0
        )
    for where, amount in amounts.items():
        if amount > most:
            raise ConfigError(
                explain(
                    expected=f"at most {most} images: of more some would be nearer in a group than dataset.min_gap",
                    got=str(amount),
                    where=where,
                    do=f"lower {where}, or dataset.min_gap (null: images of a group may be bought together)",
                )
            )
