"""Where modules that a configuration may name have moved.

Older run folders and people's own yaml name the old place.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

# old module -> where its classes are now, both below al_lab
_MOVED = {
    "data.cityscapes": "data.datasets.cityscapes",
    "data.coco": "data.datasets.coco",
    "data.coco_folder": "data.datasets.coco_folder",
    "data.dataset": "data.datasets.dataset",
    "data.dense_transforms": "data.transforms.dense",
    "data.detection": "data.datasets.detection",
    "data.domains": "data.datasets.domains",
    "data.folder": "data.datasets.voc_folder",
    "data.gtav": "data.datasets.gtav",
    "data.label_folder": "labeling.folder",
    "data.segmentation": "data.datasets.segmentation",
    "data.segmentation_folder": "data.datasets.segmentation_folder",
    "data.shapes": "data.generated.shapes",
    "data.streets": "data.generated.streets",
    "data.strong": "data.transforms.strong",
    "data.synthia": "data.datasets.synthia",
    "data.transforms": "data.transforms.detection",
    "data.voc": "data.datasets.voc",
    "models.deeplab": "models.segmenters.deeplab",
    "models.density_branch": "models.segmenters.density_branch",
    "models.flip": "models.detectors.flip",
    "models.mmdet_network": "models.mm.mmdet_network",
    "models.mmseg_network": "models.mm.mmseg_network",
    "models.network": "models.detectors.network",
    "models.postprocess": "models.detectors.postprocess",
    "models.segmenter": "models.segmenters.segmenter",
    "models.squeeze": "models.detectors.squeeze",
    "models.squeeze_segmenter": "models.segmenters.squeeze",
    "models.tiny": "models.detectors.tiny",
    "models.tiny_segmenter": "models.segmenters.tiny",
    "reporting.tracking": "trackers.tracking",
    "strategies.al_ssl": "strategies.detection.al_ssl",
    "strategies.badge": "strategies.general.badge",
    "strategies.core_set": "strategies.general.core_set",
    "strategies.density": "strategies.segmentation.density",
    "strategies.entropy": "strategies.general.entropy",
    "strategies.least_confidence": "strategies.general.least_confidence",
    "strategies.margin": "strategies.general.margin",
    "strategies.mgral": "strategies.detection.mgral",
    "strategies.random": "strategies.general.random",
    "strategies.replay": "strategies.general.replay",
    "strategies.ripu": "strategies.segmentation.ripu",
    "sweep": "cli.sweep",
}
_BACK = {new: old for old, new in _MOVED.items()}
# A module, then a class and perhaps a method of it; or a function of the module.
_PATH = re.compile(r"al_lab\.(?P<module>[a-z_0-9.]+)\.(?P<name>[A-Z]\w*(\.\w+)?|\w+)")


def present_path(target: str) -> str:
    """Return where a ``_target_`` is now."""
    return _renamed(target, _MOVED)


def first_path(target: str) -> str:
    """Return where a ``_target_`` was first: the spelling that fingerprints and cache keys are made of."""
    return _renamed(target, _BACK)


def _renamed(target: str, table: Mapping[str, str]) -> str:
    found = _PATH.fullmatch(target)
    if found is None or found["module"] not in table:
        return target
    return f"al_lab.{table[found['module']]}.{found['name']}"


def with_targets(node: Any, path: Callable[[str], str]) -> Any:
    """Copy a configuration, or a part of it, with another path at each ``_target_``."""
    if isinstance(node, Mapping):
        return {
            key: path(value) if key == "_target_" and isinstance(value, str) else with_targets(value, path)
            for key, value in node.items()
        }
    return [with_targets(value, path) for value in node] if isinstance(node, list | tuple) else node
