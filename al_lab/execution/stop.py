"""How a process of ours is asked to end.

SIGTERM does what Ctrl-C does, and submitted jobs are cancelled on the way out.
"""

import os
import signal
import threading
import time

from al_lab.core.errors import Interrupted

_LOOK_S = 0.5  # between two looks of a job whether its sweep is still there
_GRACE_S = 10.0  # for a campaign to cancel what it has submitted


def end_on_sigterm() -> None:
    """Let SIGTERM raise `Interrupted` in this process, where Python can set a handler."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _leave)


def _leave(*_: object) -> None:
    raise Interrupted("SIGTERM")


def end_with(parent: int) -> None:
    """End this process soon after ``parent`` is gone; to be called in a thread."""
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    os._exit(1)  # workers end by themselves then, and files are only ever renamed into place
