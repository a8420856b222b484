"""What a person typed, put in the form that Hydra reads, or refused with a sentence."""

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from al_lab.config.options import options
from al_lab.core.errors import ConfigError, did_you_mean, explain

# Hydra's flags: those that take a value, those that may, those that don't.
_WITH_VALUE = ("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd", "--package", "-p", "--cfg", "-c",
               "--experimental-rerun")  # fmt: skip
_INFO = ("--info", "-i")
_BARE = ("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m",
         "--shell-completion", "-sc")  # fmt: skip
_FLAGS = (*_WITH_VALUE, *_INFO, *_BARE)
_SWEEP = ("-m", "--multirun")
_INFO_TOPICS = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
# Keys whose values are text, whatever characters it has: paths, and expressions of names.
_PATH_KEY = re.compile(r"(?!(.*\.)?class_weights$)(.*[._])?(root|path|init|weights|folder|dir|checkpoint|group_by)")
_GROUPS = ("strategy", "dataset", "protocol", "detector", "segmenter", "objective", "budget", "trainer", "oracle",
           "executor", "tracker", "experiment", "debug")  # fmt: skip


def arranged(arguments: Sequence[str]) -> list[str]:
    """Return the arguments as Hydra reads them: flags first, paths quoted where its grammar would read them otherwise.

    Raises:
        ConfigError: for what is neither a flag nor ``key=value``, and for several values without ``-m``.
    """
    flags, words = _split(arguments)
    is_sweep = any(flag in _SWEEP for flag in flags) or "hydra.mode=MULTIRUN" in words
    overrides = [_override(word, words[n + 1 : n + 2], is_sweep) for n, word in enumerate(words)]
    return [*flags, *(map(_for_each_job, overrides) if is_sweep else overrides)]


def _for_each_job(override: str) -> str:
    """Let a key wait for the job that has it.

    Hydra composes once before it knows what a sweep chooses: with the default strategy, whose protocol may pick options
    without this key. Each job is checked before the first one starts, so a misspelt key is still refused.
    """
    key = override.partition("=")[0]
    return f"++{override}" if "." in key and key.partition(".")[0] in _GROUPS else override


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    flags: list[str] = []
    words: list[str] = []
    rest: Iterator[str] = iter(arguments)
    for argument in rest:
        if not argument.startswith("-"):
            words.append(argument)
            continue
        name, equals, _ = argument.partition("=")
        if name not in _FLAGS:
            _refuse_flag(argument)
        flags.append(argument)
        if name in _WITH_VALUE and not equals:
            flags += [value] if (value := next(rest, None)) is not None else []
        elif name in _INFO and not equals and (found := next(rest, None)) is not None:
            (flags if found in _INFO_TOPICS else words).append(found)
    return flags, words


def _refuse_flag(argument: str) -> None:
    bare = argument.lstrip("-")
    near = difflib.get_close_matches(argument.partition("=")[0], _FLAGS, n=1, cutoff=0.75)
    do = f"did you mean {near[0]}?" if near else "settings are key=value, without dashes (--help shows them)"
    if "=" in bare:
        do = f"write {bare}"
    elif (group := _group_of(bare)) is not None:
        do = f"write {group}={bare}"
    raise ConfigError(explain(expected="key=value, or a flag", got=repr(argument), where="command line", do=do))


def _group_of(word: str) -> str | None:
    return next((group for group in _GROUPS if word in options(group)), None)


def _override(word: str, following: Sequence[str], is_sweep: bool) -> str:
    key, equals, value = word.partition("=")
    if not equals and not word.startswith("~"):
        _refuse_word(word, following)
    try:
        parsed: Override | None = OverridesParser.create().parse_override(word)
    except HydraException:
        parsed = None
    is_path = _PATH_KEY.fullmatch(key.lstrip("+~")) is not None
    if is_path and "${" in value and _is_there(value):  # a name on the disk, no interpolation
        return f"{key}={quoted(value.replace('${', chr(92) + '${'))}"
    if parsed is None:
        if is_path or "/" in value or _is_there(value):
            return f"{key}={quoted(value)}"
        do = f"write {key}={quoted(value)} (with the quotes inside those of your shell) if it is meant as text"
        raise ConfigError(explain(expected="a value", got=repr(value), where=key, do=do))
    if is_path and not _is_text(parsed, value) and (not parsed.is_sweep_override() or _is_there(value)):
        return f"{key}={quoted(value)}"
    if parsed.is_sweep_override() and not is_sweep:
        if is_path:
            return f"{key}={quoted(value)}"
        do = "add -m to run one after the other, or write [" + value + "] for a list"
        raise ConfigError(explain(expected="one value", got=f"several ({value})", where=key, do=do))
    return word


def _is_there(value: str) -> bool:
    return Path(value).expanduser().exists()


def _is_text(parsed: Override, value: str) -> bool:
    """Say whether Hydra reads a path as it stands, or reads what its writer meant: null, quotes, an interpolation."""
    if parsed.is_sweep_override():
        return False
    found: Any = parsed.value()
    return found is None or isinstance(found, bool) or "${" in value or found == value or value[:1] in ("'", '"')


def quoted(value: str) -> str:
    """Return a value that Hydra reads as this very text."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return "'" + escaped + "\\" * trailing + "'"


def _refuse_word(word: str, following: Sequence[str]) -> None:
    value = following[0] if following and "=" not in following[0] else None
    group = _group_of(word)
    if value is not None and (word in _GROUPS or "." in word):
        do = f"write {word}={value}"
    elif group is not None:
        do = f"write {group}={word}"
    elif word in _GROUPS:
        do = f"write {word}=…; {did_you_mean('', options(word))}"
    else:
        do = "--help shows the keys"
    raise ConfigError(explain(expected="key=value", got=repr(word), where="command line", do=do))
