"""From what a wrong command made Hydra raise to the one sentence its user can act on."""

import errno
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from al_lab.config import checks
from al_lab.config.load import ROOT_KEYS, compose
from al_lab.config.options import options
from al_lab.core.disk import disk_error
from al_lab.core.errors import LabError, did_you_mean, explain

# Hydra's flags that each say what a command does; it runs, or looks, once.
_DEEDS = ("-m", "--multirun", "-r", "--run", "-c", "--cfg", "-i", "--info", "-sc", "--shell-completion")

_NO_KEYS = "has no keys"

# What OmegaConf calls a type, in words, and an example.
_KINDS = {"Integer": ("a whole number", "0"), "Boolean": ("true or false", "true"), "Float": ("a number", "0.5")}


def readable(error: BaseException, arguments: Sequence[str] = ()) -> str | None:
    """Return the sentence for an error in the command, of ours or of the file system.

    None for anything else, which deserves its traceback.

    Args:
        error: what was raised while composing or running.
        arguments: of the command line, to look up what could have been meant.
    """
    overrides = [a for a in arguments if "=" in a and not a.startswith("-")]
    if isinstance(error, LabError):
        return str(error)
    if isinstance(error, OSError) and error.errno is not None:
        return str(disk_error(error))
    if isinstance(error, RuntimeError) and (loop := re.match(r"Symlink loop from '(.*)'", str(error))):
        return str(disk_error(OSError(errno.ELOOP, "", loop[1])))  # what Python says of it before 3.13
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        found = [o for o in error.options or options(group) if not o.startswith("_")]
        return explain(
            expected=f"an option of {group}",
            got=repr(option),
            where=f"{group}={option}",
            do=did_you_mean(option, found),
        )
    if isinstance(error, ValueError) and "Config group override must be" in str(error):
        key = next((o.partition("=")[0] for o in overrides if o.endswith("=null")), "group")
        return explain(
            expected="an option's name", got="null", where=f"{key}=null", do=f"write ~{key} to have no {key} at all"
        )
    if isinstance(error, AssertionError) and "Unexpected type for root: NoneType" in str(error):
        # A key is added (++) below a group that has no option here.
        added = [o for o in overrides if o.startswith("++")]
        rest = [o for o in overrides if o not in added]
        said = {key: _meant(key, rest) for o in added if "." in (key := o.partition("=")[0].lstrip("+"))}
        key = next((k for k, words in said.items() if words.endswith(_NO_KEYS)), next(iter(said), ""))
        return _unknown_key(key, said.get(key, ""))
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return _clash(error, arguments)
    text = "\n".join(str(e) for e in (error, error.__cause__) if isinstance(e, HydraException | OmegaConfBaseException))
    unknown = re.search(r"Could not override '([^']+)'", text) or re.search(
        r"full_key: (\S+)(?=[\s\S]*object_type=RunConfig)", text
    )
    if unknown and ("not in" in text or "No match" in text):
        return _unknown_key(unknown[1], _meant(unknown[1], overrides))
    return _wrong_type(text) or text.strip()


def _unknown_key(key: str, do: str) -> str:
    return explain(expected="a key of the configuration", got=repr(key), where="command line or recipe", do=do)


def _wrong_type(text: str) -> str | None:
    """Return the sentence for a value that the schema of the root refuses."""
    found = re.search(r"Value '(.*)' of type '\w+' could not be converted to (\w+)[\s\S]*full_key: (\S+)", text)
    if found is None:
        return None
    value, kind, key = found.groups()
    expected, example = _KINDS.get(kind, (f"a value of type {kind}", "…"))
    return explain(expected=expected, got=repr(value), where=key, do=f"e.g. {key}={example}")


def _meant(key: str, overrides: Sequence[str]) -> str:
    """Say which key could have been meant, from the configuration without the override that failed."""
    rest = [o for o in overrides if o.partition("=")[0].lstrip("+~") != key]
    try:
        tree: Any = {**compose(rest), "experiment": None, "debug": None}
        del tree["choices"]
    except (HydraException, OmegaConfBaseException, LabError):
        tree = dict.fromkeys(ROOT_KEYS)
    *parents, last = key.split(".")
    for parent in parents:
        if not isinstance(tree, Mapping) or parent not in tree:
            return did_you_mean(parent, tree if isinstance(tree, Mapping) else ())
        tree = tree[parent]
    if not isinstance(tree, Mapping):
        return f"{'.'.join(parents)} {_NO_KEYS}"
    target = tree.get("_target_")
    accepted = checks.accepted_keys(target) if isinstance(target, str) else ()
    if last in accepted:
        return f"it is an argument of {target} that the yaml does not list: write +{key}=…"
    return did_you_mean(last, [k for k in {*tree, *accepted} if not k.startswith("_")])


def _clash(error: BaseException, arguments: Sequence[str]) -> str | None:
    """Return the sentence for flags of Hydra that exclude each other, which it answers with a bare ValueError."""
    if not isinstance(error, ValueError):
        return None
    if "Only one of --run" in str(error):
        given = [a for a in arguments if a.partition("=")[0] in _DEEDS]
        return explain(
            expected=f"one of {', '.join(_DEEDS[1::2])}",
            got=" and ".join(given),
            where="command line",
            do="leave -m out to look at a configuration: --cfg job with one value for each key",
        )
    if "--resolve flag" in str(error):
        return explain(expected="--cfg beside --resolve", got="none", where="command line", do="add --cfg job")
    return None
