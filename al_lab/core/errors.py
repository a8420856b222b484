"""Errors with one grammar: what was expected, what came, where from, what to do."""

import difflib
from collections.abc import Iterable, Sequence


class LabError(Exception):
    """A problem the user can act on; its message is the whole story, so no traceback is shown for it."""


class ConfigError(LabError, ValueError):
    """The composed configuration can't run."""


class DataError(LabError, ValueError):
    """An image, an annotation or a dataset folder is not what it should be."""


class DataErrors(DataError):
    """Several things in one file, found in one pass.

    Attributes:
        sentences: one for each, the first of which is the message.
    """

    def __init__(self, sentences: Sequence[str]) -> None:
        self.sentences = tuple(dict.fromkeys(sentences))
        more = f" (and {len(self.sentences) - 1} more in this file; al-lab data verify names all)"
        super().__init__(self.sentences[0] + (more if len(self.sentences) > 1 else ""))


class WeightsError(LabError):
    """Pretrained weights or a checkpoint are missing or don't fit."""


class ResumeError(LabError):
    """A run folder can't be continued by this command."""


class JobError(LabError):
    """One or more jobs failed for good."""


class DivergedError(LabError):
    """Training produced a loss that is not finite, or too large.

    Attributes:
        step: at which.
    """

    def __init__(self, message: str, step: int = -1) -> None:
        super().__init__(message)
        self.step = step


class Interrupted(BaseException):  # noqa: N818 - not an error: as KeyboardInterrupt, for SIGTERM
    """This process was asked to end; what it did is committed or checkpointed, and can be gone on with."""


class Awaiting(Exception):  # noqa: N818 - not an error: the campaign stops cleanly, and the same command goes on
    """Something was asked for from outside, and has not (all) come back yet."""


class AwaitingLabels(Awaiting):
    """Labels, of people."""


class AwaitingPredictions(Awaiting):
    """Predictions, of a model that is trained elsewhere."""


def explain(*, expected: str, got: str, where: str, do: str) -> str:
    """Compose the one sentence every error of ours has."""
    return f"{where}: expected {expected}, got {got}; {do}"


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return ``"did you mean 'x'?"`` for the nearest choice, else the list of choices."""
    options = sorted(set(choices))
    near = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"choose one of: {', '.join(options)}" if options else "there are no choices"
