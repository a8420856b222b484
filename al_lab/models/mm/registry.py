"""From a model dict of mmdetection or mmsegmentation to the module it describes."""

import copy
import importlib
import warnings
from collections.abc import Mapping
from typing import Any, Literal

from torch import nn

from al_lab.core.errors import ConfigError, explain
from al_lab.models.mm import mmcv_ext

_NAMES = {"mmdet": "mmdet", "mmseg": "mmsegmentation"}


def plain(node: Any, key: str = "") -> Any:
    """Copy to plain dicts and lists, but for the one value mmdet insists is a tuple (FPN insists on lists)."""
    if isinstance(node, Mapping):
        return {k: plain(v, k) for k, v in node.items()}
    if isinstance(node, list | tuple):
        values = [plain(v) for v in node]
        return tuple(values) if key == "basesize_ratio_range" else values
    return node


def take_pretrained(model: dict[str, Any]) -> str | None:
    """Take a ``Pretrained`` init_cfg out of the backbone and return its source.

    mmengine would unpickle whatever it downloads.
    """
    backbone = model.get("backbone") or {}
    init = backbone.get("init_cfg")
    if isinstance(init, Mapping) and init.get("type") == "Pretrained":
        del backbone["init_cfg"]
        return str(init["checkpoint"])
    return None


def build_module(model: Mapping[str, Any], library: Literal["mmdet", "mmseg"], where: str) -> nn.Module:
    """Build what the dict describes from the library's own registry; weights are not initialized yet.

    Args:
        model: plain dict, see `plain`.
        library: whose registry.
        where: setting to name in errors.

    Raises:
        ConfigError: if the library is not installed, or can't build it.
    """
    mmcv_ext.install()
    with warnings.catch_warnings():
        # Not ours to fix: mmengine, mmdet and mmseg use torch functions that newer torch announces to remove.
        warnings.simplefilter("ignore")
        try:
            # fills the registry; register_all_modules would hijack the other library's backbones
            importlib.import_module(f"{library}.models")
            registry = importlib.import_module(f"{library}.registry").MODELS
            from mmengine.config import ConfigDict
            from mmengine.logging import MMLogger
        except ImportError as error:
            raise mmcv_ext.not_installed(error) from error

        MMLogger.get_current_instance().setLevel("ERROR")  # init_weights logs every parameter
        config = ConfigDict(copy.deepcopy(dict(model)))
        config["_scope_"] = library
        try:
            return registry.build(config)
        except (KeyError, TypeError, ValueError, AssertionError, AttributeError) as error:
            raise ConfigError(
                explain(
                    expected=f"a model dict {_NAMES[library]} can build",
                    got=f"{type(error).__name__}: {error}",
                    where=where,
                    do=f"compare the dict with {_NAMES[library]}'s own configs",
                )
            ) from error


def init_weights(module: Any) -> None:
    """Let the library initialize what it built. Mandatory: SSD's L2Norm scale is uninitialised memory before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module.init_weights()
