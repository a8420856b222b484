"""Running somebody's command: its words, its log, its end, and what is said when it does not end well."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from al_lab.core.errors import ConfigError, JobError, did_you_mean, explain

_WORD = re.compile(r"\{(\w+)\}")
_LINES = 8  # of a log, repeated in an error
_TAIL_BYTES = 20_000
# The command gets a process group of its own, with a guard in it that ends all of it when the pipe is closed: when we
# are done, and when this process dies, however it dies. In sh a background job's input is /dev/null unless it is kept.
_GUARDED = 'exec 3<&0 </dev/null; { cat <&3 >/dev/null; kill -KILL 0; } & exec 3<&-; exec "$@"'


def check_template(template: str, known: Iterable[str], where: str) -> None:
    """Refuse a command that has no word, or an unknown word in braces.

    Raises:
        ConfigError: naming the word.
    """
    try:
        words = shlex.split(template)
    except ValueError as error:
        do = "close the quotation"
        raise ConfigError(explain(expected="a command", got=str(error), where=where, do=do)) from None
    if not words:
        do = "write the command, such as 'python train.py --data {data} --out {out}'"
        raise ConfigError(explain(expected="a command", got="nothing", where=where, do=do))
    names = tuple(known)
    for name in _WORD.findall(template):
        if name not in names:
            expected = f"words in braces among {', '.join(f'{{{n}}}' for n in names)}"
            got, do = f"{{{name}}}", did_you_mean(name, names)
            raise ConfigError(explain(expected=expected, got=got, where=where, do=do))


def command_words(template: str, values: Mapping[str, object]) -> list[str]:
    """Split a command as a shell does, then fill in: a value with spaces stays one word. No shell is involved."""
    filled = {"python": sys.executable, **values}
    return [_WORD.sub(lambda m: str(filled[m[1]]), word) for word in shlex.split(template)]


def run_command(words: list[str], log: Path, minutes: float | None, where: str) -> None:
    """Run a command to its end; what it prints goes into ``log``, anew.

    Args:
        words: program and arguments.
        log: its folder is made.
        minutes: after which it is ended, with all it has started; None: it may take as long as it likes.
        where: the setting that holds it, for errors.

    Raises:
        ConfigError: if there is no such program.
        JobError: if it fails, or takes too long.
    """
    if shutil.which(words[0]) is None:
        do = "correct the command, or install the program where the jobs run (it is looked for in PATH)"
        raise ConfigError(explain(expected="a program", got=f"{words[0]!r}, which is not there", where=where, do=do))
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        stream.write(f"== {shlex.join(words)}\n".encode())
        stream.flush()
        process = subprocess.Popen(
            ["/bin/sh", "-c", _GUARDED, "sh", *words],
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        code = process.wait(None if minutes is None else 60 * minutes)
    except subprocess.TimeoutExpired:
        expected, got = f"an end within {minutes:g} minutes", "none: it was ended"
        do = f"see what it waits for, or give it more time ({where}_minutes)"
        raise JobError(_failed(expected, got, where, log, do)) from None
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
    if code:
        raise JobError(_failed("exit code 0", _cause(code), where, log, "correct the command, then run again"))


def _cause(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"an end by {name}" + (" (the kernel does this when memory runs out)" if name == "SIGKILL" else "")


def _failed(expected: str, got: str, where: str, log: Path, do: str) -> str:
    with log.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, 2) - _TAIL_BYTES))
        lines = [line for line in stream.read().decode(errors="replace").splitlines() if line.strip()][-_LINES:]
    said = "\n".join(f"  | {line}" for line in lines if not line.startswith("== "))
    sentence = explain(expected=expected, got=got, where=f"{where} (log: {log})", do=do)
    return f"{sentence}\nits last words:\n{said}" if said else f"{sentence}\nit printed nothing"
