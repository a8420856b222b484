"""What a command says while it does nothing to be seen."""

import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

log = logging.getLogger("al_lab")

_SECONDS_BETWEEN_LINES = 10.0
# Flags with which a command looks at something, and runs no campaign.
_LOOKS = (
    "-h",
    "--help",
    "--hydra-help",
    "--version",
    "-c",
    "--cfg",
    "-i",
    "--info",
    "-sc",
    "--shell-completion",
    "-p",
    "--package",
)


def first_line(arguments: Sequence[str]) -> None:
    """Say that a campaign's command has begun, on stderr; nothing for commands that only look."""
    if not any(a.partition("=")[0] in _LOOKS for a in arguments):
        what = "sweep" if {"-m", "--multirun"} & set(arguments) else "campaign"
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} al-lab: reading the configuration of the {what}\n")
        sys.stderr.flush()


@contextmanager
def said_while(what: str) -> Iterator[None]:
    """Log that something is done, that it still is every ten seconds, and how long it took if it took as long."""
    began, is_over = time.monotonic(), threading.Event()
    log.info("%s", what)

    def repeat() -> None:
        while not is_over.wait(_SECONDS_BETWEEN_LINES):
            log.info("%s: %.0f s so far", what, time.monotonic() - began)

    threading.Thread(target=repeat, daemon=True).start()
    try:
        yield
    finally:
        is_over.set()
    took = time.monotonic() - began
    if took > _SECONDS_BETWEEN_LINES:
        log.info("%s took %.0f s", what, took)
