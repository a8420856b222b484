"""What tests compose again and again, remembered within a process of pytest.

Commands that tests start as processes of their own compose as a user's do.
"""

import copy
import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import omegaconf._utils
import omegaconf.base
from hydra._internal import config_repository
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult
from omegaconf import grammar_parser

from al_lab.config import load
from al_lab.config.options import CONF_DIR

OURS = str(CONF_DIR.resolve())


def remember() -> None:
    """Parse each interpolation, read each yaml as it stands, and compose each command of the project's conf/ once."""
    parse = functools.cache(grammar_parser.parse)
    for module in (grammar_parser, omegaconf._utils, omegaconf.base):
        module.parse = parse
    _remember_files()
    _remember_commands()


def _remember_files() -> None:
    read = config_repository.ConfigRepository.load_config
    known: dict[Any, ConfigResult] = {}

    def load_config(self: Any, config_path: str) -> ConfigResult | None:
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is None:
            return None
        key: Any = (source.provider, source.path, config_path)
        if source.scheme() == "file":
            state = os.stat(os.path.join(source.path, source._normalize_file_name(config_path)))
            key = (*key, state.st_mtime_ns, state.st_size)
        if key not in known:
            known[key] = read(self, config_path)
        return copy.deepcopy(known[key])  # composing changes what it is given

    config_repository.ConfigRepository.load_config = load_config


def _remember_commands() -> None:
    compose = load._composed
    known: dict[Any, tuple[dict[str, Any], Mapping[str, Any]]] = {}

    def composed(overrides: Sequence[str]) -> tuple[dict[str, Any], Mapping[str, Any]]:
        sources = GlobalHydra.instance().hydra.config_loader.get_sources()
        is_ours = all(s.path == OURS for s in sources if s.scheme() == "file")
        if not is_ours or any(o.startswith("hydra.searchpath") for o in overrides):
            return compose(overrides)
        key = (*overrides, *(f"{k}={v}" for k, v in os.environ.items() if k.startswith("AL_LAB_")))
        if key not in known:
            config, choices = compose(overrides)
            known[key] = config, dict(choices)
        return copy.deepcopy(known[key])

    load._composed = composed
