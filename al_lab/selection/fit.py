"""Which strategies can live on predictions files, and which can't."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from al_lab.config.fitting import fitting, learns
from al_lab.config.options import every, strategies_in, union
from al_lab.config.signatures import literal_of
from al_lab.core.errors import ConfigError, explain
from al_lab.core.strategy import STANDARD_STAGES, Strategy

_REMEDIES = {
    "detections": "give --predictions FILE",
    "class_probs": "give --predictions FILE",
    "image_embedding": "give --arrays FILE.npz with 'images' and 'embedding'",
}


def check_task(name: str, node: Mapping[str, Any], dataset: Any, provides: Iterable[str], has_labels: bool) -> None:
    """Refuse a strategy that can't choose whole images of this dataset from files, before it is built.

    Args:
        name: of the strategy, for messages.
        node: its configuration.
        dataset: what is chosen from.
        provides: what the files hold.
        has_labels: some images are labeled, and their labels are known.

    Raises:
        ConfigError: naming the strategies that can.
    """
    if dataset.task != "detection":
        raise ConfigError(
            explain(
                expected="a dataset of boxes",
                got=f"{dataset.name!r}, a {dataset.task} dataset",
                where="al-lab select",
                do="predictions files hold boxes; pixels and regions are chosen by a campaign",
            )
        )
    remain = f"what remains: {', '.join(fitting(provides, has_labels))}"
    if "detection" not in every(node, "tasks", ("detection",)):
        raise _refused(name, "a strategy for detection", "one for segmentation", remain)
    if not all(literal_of(target, "only_views", True) for target in strategies_in(node)):
        got = "one with stages, or files, of its own"
        raise _refused(name, "a strategy that needs no more than predictions", got, f"run a campaign, or {remain}")
    if not has_labels and learns(node):
        do = f"say which images are labeled: --labeled annotated, or a list; {remain}"
        raise _refused(name, "labeled images, whose labels it learns from", "none", do)
    lacking = sorted(set(union(node, "needs")) - set(provides))
    if lacking:
        do = "; ".join(dict.fromkeys(_REMEDIES.get(n, "a campaign's detector can provide it") for n in lacking))
        raise _refused(name, f"files that hold {', '.join(lacking)}", "others", f"{do}; {remain}")


def check_built(name: str, strategy: Strategy) -> None:
    """Refuse an object that has stages of its own and does not say so.

    Raises:
        ConfigError: naming it.
    """
    if strategy.stages() != list(STANDARD_STAGES):
        raise _refused(name, "a strategy without stages of its own", str(strategy.stages()), "run a campaign")


def _refused(name: str, expected: str, got: str, do: str) -> ConfigError:
    return ConfigError(explain(expected=expected, got=got, where=f"strategy={name}", do=do))
