"""What happens when a training diverges: it begins again, with another seed and perhaps a lower learning rate."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from al_lab.core.errors import ConfigError, DivergedError, LabError, did_you_mean, explain
from al_lab.core.fields import at_least, optional, positive, share
from al_lab.core.files import read_json, write_json
from al_lab.core.rng import Rng

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class OnDivergence:
    """How often, and in which way, a training that diverged is begun again; the numbers of ``trainer.on_divergence``.

    An attempt is a function of (seed, attempt): its initial weights, batches and augmentation have a seed derived from
    the training's, so a campaign that is killed during the third attempt has the same model in the end. The released
    code of CSD, ISD and AL-SSL begins again, without end, when a loss is above 100 (AL-SSL's also at NaN).

    These numbers decide nothing in trainings that don't diverge; so they may change when a run goes on.

    Attributes:
        retries: further attempts, 0 for none.
        lr_scale: factor on the learning rate of each further attempt; 1: as in the codes above.
        max_loss: a loss above it counts as diverged, too; null: only one that is not finite.
    """

    retries: int = 2
    lr_scale: float = 1.0
    max_loss: float | None = None

    def __post_init__(self) -> None:
        at_least(0)(self.retries, "trainer.on_divergence.retries")
        share(self.lr_scale, "trainer.on_divergence.lr_scale")
        optional(positive)(self.max_loss, "trainer.on_divergence.max_loss")

    @classmethod
    def read(cls, node: "Mapping[str, Any] | OnDivergence | None") -> "OnDivergence":
        """Return what a configuration says; nothing: the defaults."""
        if isinstance(node, OnDivergence):
            return node
        names = [f.name for f in fields(cls)]
        strange = [key for key in node or {} if key not in names]
        if strange:
            raise ConfigError(
                explain(
                    expected=f"keys among {', '.join(names)}",
                    got=repr(strange[0]),
                    where="trainer.on_divergence",
                    do=did_you_mean(str(strange[0]), names),
                )
            )
        return cls(**(node or {}))

    def seed(self, seed: int, attempt: int) -> int:
        """Return the seed of an attempt; the first one's is the training's own."""
        return Rng(seed, "attempt", attempt).seed() if attempt else seed

    def lr_factor(self, attempt: int) -> float:
        """Return what the learning rate of an attempt is multiplied with."""
        return self.lr_scale**attempt

    def given_up(self, reason: str) -> DivergedError:
        """Return the error after the last attempt; what it advises works in the run folder that is there."""
        tries = (
            f"all {self.retries + 1} attempts diverged, each with another seed; the last one: " if self.retries else ""
        )
        return DivergedError(
            f"{tries}{reason}. If the images are sound: the same command with "
            f"trainer.on_divergence.retries={self.retries + 2} "
            f"trainer.on_divergence.lr_scale={self.lr_scale / 2:g} goes on "
            "with this run, at a lower learning rate where a training diverges; another trainer.lr, warmup_iters, "
            "grad_clip or "
            "precision is another recipe, which needs a run of its own: add name=…"
        )


@dataclass(frozen=True)
class Attempt:
    """An attempt that diverged.

    Attributes:
        fingerprint: of what it trained, its seed and learning rate included.
        max_loss: the rule it was judged by.
        seed: of this attempt.
        lr_factor: on its learning rate.
        step: at which its loss was looked at.
        reason: the sentence, with step, loss and images.
    """

    fingerprint: str
    max_loss: float | None
    seed: int
    lr_factor: float
    step: int
    reason: str


class Attempts:
    """The attempts of one training that diverged, kept in its scratch folder so that none is made twice.

    Whatever the file lost is found out again: an attempt that diverged once does so every time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._all = [Attempt(**row) for row in read_json(path)] if path.is_file() else []
        except (LabError, OSError, TypeError):
            log.warning("%s can't be read: what diverged before is tried again", path)
            self._all = []

    def find(self, fingerprint: str, max_loss: float | None) -> Attempt | None:
        """Return what is known of an attempt."""
        return next((a for a in self._all if (a.fingerprint, a.max_loss) == (fingerprint, max_loss)), None)

    def add(self, attempt: Attempt, write: bool) -> None:
        """Note one; a single process of those that share a training writes."""
        self._all.append(attempt)
        if write:
            write_json(self.path, [asdict(a) for a in self._all])
