"""Which strategies can live on what a model says of images, and nothing else: of predictions files, or of commands."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from al_lab.config.options import every, option, options, strategies_in, union
from al_lab.config.signatures import literal_of
from al_lab.core.budget import PARTS

_NESTED = "/strategy@"


def fitting(provides: Iterable[str], has_labels: bool, task: str = "detection", unit: str = "image") -> list[str]:
    """Return the strategies that can live on what a model provides.

    Args:
        provides: in the words of `Strategy.needs`.
        has_labels: some images are labeled, and their labels are known.
        task: detection | segmentation.
        unit: of the budget.
    """
    held = set(provides)
    found = []
    for name in options("strategy"):
        node = with_defaults(name)
        knows = has_labels or not learns(node)
        buys = unit in every(node, "units", ("image", "box"))
        fits = task in every(node, "tasks", ("detection",)) and buys and set(needs_of(node, unit)) <= held and knows
        if fits and only_views(node):
            found.append(name)
    return found


def only_views(node: Mapping[str, Any]) -> bool:
    """Say whether a strategy, and all it is made of, has neither stages nor files of its own."""
    return all(literal_of(target, "only_views", True) for target in strategies_in(node))


def learns(node: Mapping[str, Any]) -> bool:
    """Say whether a strategy, or anything it is made of, learns from the labels of labeled images."""
    return any(literal_of(target, "needs_labels", False) for target in strategies_in(node))


def needs_of(node: Mapping[str, Any], unit: str) -> tuple[str, ...]:
    """Return what a model must provide when this unit is bought."""
    pixels = literal_of(str(node["_target_"]), "pixel_needs", None) if unit in PARTS else None
    return union(node, "needs") if pixels is None else tuple(pixels)


def provides_of(model: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return what a model's configuration says it provides, settings included; None if it can't be told."""
    target = str(model["_target_"])
    provides = literal_of(target, "provides", None)
    if provides is None:
        return None
    more = literal_of(target, "provides_with", {}).items()
    given = ((by_value, value) for key, by_value in more for value in _values(model.get(key)))
    return (*provides, *(word for by_value, value in given for word in by_value.get(value, ())))


def _values(setting: Any) -> list[Any]:
    """Return what is hashable of a setting: its value, or those of a list, or the keys of a mapping."""
    values = list(setting) if isinstance(setting, list | tuple | Mapping) else [setting]
    return [value for value in values if isinstance(value, Hashable)]


def with_defaults(name: str) -> dict[str, Any]:
    """Return a strategy's yaml with the strategies that its list of defaults puts into it."""
    node = dict(option("strategy", name))
    for default in node.pop("defaults", ()):
        for key, value in default.items() if isinstance(default, Mapping) else ():
            place = str(key).removeprefix(_NESTED)
            if str(key).startswith(_NESTED) and "." not in place:
                node[place] = with_defaults(str(value)) | (node.get(place) or {})
    return node
