"""Waiting for what comes from outside: labels of people, predictions of a model that is trained elsewhere."""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from al_lab.core.errors import Awaiting
from al_lab.core.stage import StageContext

log = logging.getLogger(__name__)
T = TypeVar("T")


def answered(ctx: StageContext, outside: Any, ask: Callable[[], T], wait_for_news: Callable[[], None]) -> T:
    """Ask until there is an answer; with ``outside.wait`` the command stays until then.

    People take hours: neither a worker nor the memory of its GPU is held meanwhile.

    Raises:
        Awaiting: without ``outside.wait``, as long as something is missing.
    """
    while True:
        try:
            return ask()
        except Awaiting as waiting:
            if not outside.wait:
                raise
            log.info("%s\nwaiting: this command goes on by itself (Ctrl-C ends it; nothing is lost)", waiting)
        ctx.executor.close()
        wait_for_news()
