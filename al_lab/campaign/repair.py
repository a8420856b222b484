"""Hold a run folder to what its ledger says.

What was lost or damaged and can be made again is made again, the rest is named.

A stage that is made again has to come to what it came to before. What was intact stays as it was; where a training on
other hardware comes to other weights, that is said and put down in the ledger.
"""

import dataclasses
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from al_lab.core.errors import AwaitingLabels, LabError, ResumeError, explain
from al_lab.core.files import set_aside, sha256
from al_lab.core.pool import INITIAL
from al_lab.core.record.ledger import Ledger, is_as
from al_lab.core.record.purchase import publish_selections
from al_lab.core.stage import Stage, StageContext
from al_lab.stages.annotate import load_pool

log = logging.getLogger(__name__)

# What was bought is bought: made again, it must be the same.
_PURCHASES = ("buy_test", "initialize", "select", "annotate")
_FOR_THE_REPORT = ("oracle_stats.json", "pseudo_stats.json", "pool_stats.json")  # files of purchases that only it reads
_KEPT = ".kept"  # intact files of a stage that is being made again, by digest


class Repair:
    """Looks after the committed files of one run.

    Args:
        context: of the campaign; its cycle and pool are left alone.
        ledger: of the run.
        plan: every (cycle, stage) in order.
    """

    def __init__(self, context: StageContext, ledger: Ledger, plan: Sequence[tuple[int, Stage]]) -> None:
        self._context, self._ledger = context, ledger
        self._run_dir = context.run_dir
        self._plan = {Ledger.key(cycle, stage.name): (cycle, stage) for cycle, stage in plan}
        self.given_up: dict[str, str] = {}  # file -> why; nothing to come reads it

    def everything(self) -> None:
        """Look at all that was committed, when a run goes on.

        Raises:
            ResumeError: naming a file that was bought, or is still to be read, and can't be made again.
        """
        self._put_back()
        shutil.rmtree(self._run_dir / _KEPT, ignore_errors=True)
        for key, name in self._ledger.harmed(self._run_dir):
            path = self._run_dir / name
            if path.suffix == ".ckpt":  # a missing one may have been deleted to save room, so this one may be missing
                log.warning("%s is not what %s committed; moved to %s", path, key, set_aside(path).name)
        self._mend(list(self._ledger.entries))

    def before(self, cycle: int, stage: Stage) -> None:
        """Look at what a stage is going to read.

        Raises:
            ResumeError: as `everything`.
        """
        key = Ledger.key(cycle, stage.name)
        order = list(self._plan)
        earlier = [k for k in order[: order.index(key)] if k in self._ledger]
        looked_at = [k for k in earlier if self._plan[k][0] == cycle or self._plan[k][1].name in _PURCHASES]
        self._mend(looked_at)
        for path in stage.inputs(self._at(cycle, stage)):
            self._ensure(path, earlier)

    def _at(self, cycle: int, stage: Stage) -> StageContext:
        pool = load_pool(self._context.dataset, self._run_dir, INITIAL if stage.is_first else cycle)
        return dataclasses.replace(self._context, cycle=cycle, pool=pool)

    def _ensure(self, path: Path, keys: Sequence[str]) -> None:
        """Make one file again if it isn't what one of these stages committed."""
        name = str(path.relative_to(self._run_dir))
        for key in keys:
            digest = self._ledger.entries[key]["files"].get(name)
            if digest is not None and not is_as(path, digest):
                self._remake(key)
                if name in self.given_up:
                    raise _lost(self._run_dir / name, key, self.given_up[name])
                return

    def _mend(self, keys: Sequence[str]) -> None:
        """Make again what is missing or damaged of some stages; what only the report reads is not worth a training."""
        for key, name in self._ledger.harmed(self._run_dir, keys):
            if name in self.given_up or key not in self._ledger or is_as(self._run_dir / name, self._digest(key, name)):
                continue  # another file of the same stage came first
            if key not in self._plan:
                self._give_up(key, [name], "no stage of this campaign writes it")
                continue
            at, stage = self._plan[key]
            models = [p for p in stage.inputs(self._at(at, stage)) if p.suffix == ".ckpt" and not p.is_file()]
            if models and stage.name not in _PURCHASES and not self._is_open(at):
                self._give_up(key, [name], f"that takes {models[0]}, which was deleted")
                continue
            self._remake(key)

    def _is_open(self, cycle: int) -> bool:
        """Whether stages of a cycle are still to be run."""
        return any(at == cycle and key not in self._ledger for key, (at, _) in self._plan.items())

    def _digest(self, key: str, name: str) -> str:
        digest: str = self._ledger.entries[key]["files"][name]
        return digest

    def _give_up(self, key: str, names: Sequence[str], why: str) -> None:
        for name in names:
            self.given_up[name] = why
            log.warning(
                "%s is not what %s committed and can't be made again: %s; nothing that is still to be done reads it",
                self._run_dir / name,
                key,
                why,
            )

    def _remake(self, key: str) -> None:
        """Run a committed stage again in its place."""
        cycle, stage = self._plan[key]
        files = self._ledger.entries[key]["files"]
        harmed = [name for name, digest in files.items() if not is_as(self._run_dir / name, digest)]
        log.warning("%s: %s is missing or damaged; %s is done again", self._run_dir, ", ".join(harmed[:5]), key)
        for path in (self._run_dir / name for name in harmed):
            if path.exists():
                set_aside(path)
        self.before(cycle, stage)
        if key not in self._ledger:
            return  # what it was built on came out another way, so it is to be run again anyway
        self._keep([name for name in files if name not in harmed])
        context = self._at(cycle, stage)
        try:
            scalars = stage.run(context)
        except (LabError, OSError, ValueError, LookupError) as error:
            why = "the answers are no longer there" if isinstance(error, AwaitingLabels) else str(error)
            self._put_back()
            self._name(key, harmed, why)
            return
        finally:
            if stage.name in _PURCHASES:  # it has published the list as it was then
                publish_selections(self._run_dir, range(self._ledger.queries_bought))
        paths = {*stage.files(context), *(self._run_dir / name for name in files)}
        now = {str(path.relative_to(self._run_dir)): sha256(path) for path in paths if path.is_file()}
        differing = [name for name in harmed if now.get(name) != files[name]]
        if differing and stage.name not in _PURCHASES and self._is_open(cycle) and not self._is_chosen(key):
            self._start_over_from(key, scalars, now)
        else:
            self._put_back()
            self._settle(key, differing, now)
        shutil.rmtree(self._run_dir / _KEPT, ignore_errors=True)

    def _is_chosen(self, key: str) -> bool:
        """Whether something was chosen after this stage, in its cycle or later: people may be labeling it."""
        order = list(self._plan)
        return any(k in self._ledger and self._plan[k][1].name == "select" for k in order[order.index(key) :])

    def _start_over_from(self, key: str, scalars: dict[str, float], now: dict[str, str]) -> None:
        """Take what came out this time, and run what was built on it again."""
        order = list(self._plan)
        later = [k for k in order[order.index(key) + 1 :] if k in self._ledger]
        log.warning("%s came out another way (other hardware?); done again after it: %s", key, ", ".join(later) or "-")
        self._ledger.undo(later)
        self._ledger.amend(key, scalars=scalars, files=now, remade=True)

    def _settle(self, key: str, names: Sequence[str], now: dict[str, str]) -> None:
        """Decide about files that came out another way although all that was chosen since stands."""
        if not names:
            log.info("%s: made again, as it was", key)
            return
        if all(name.endswith(".ckpt") and name in now for name in names):
            log.warning("%s came out another way (other hardware?); later trainings go on from this one", key)
            files = self._ledger.entries[key]["files"] | {name: now[name] for name in names}
            self._ledger.amend(key, files=files, remade=True)
            return
        for name in names:
            if (self._run_dir / name).is_file():
                set_aside(self._run_dir / name)
        self._name(key, names, "done again, it comes out another way")

    def _name(self, key: str, names: Sequence[str], why: str) -> None:
        """Say what is lost for good.

        Raises:
            ResumeError: if it was bought.
        """
        if key.endswith(_PURCHASES) and any(Path(name).name not in _FOR_THE_REPORT for name in names):
            raise _lost(self._run_dir / names[0], key, why)
        self._give_up(key, names, why)

    def _keep(self, names: Sequence[str]) -> None:
        """Keep intact files under their digests while the stage that wrote them runs again."""
        kept = self._run_dir / _KEPT
        kept.mkdir(exist_ok=True)
        for name in names:
            path = self._run_dir / name
            target = kept / sha256(path)
            if not target.exists():
                try:
                    os.link(path, target)
                except OSError:  # no hard links here
                    shutil.copyfile(path, target)

    def _put_back(self) -> None:
        """Undo what making a stage again, or a kill in the middle of it, did to files that were intact."""
        kept = self._run_dir / _KEPT
        if not kept.is_dir():
            return
        for _, name in self._ledger.harmed(self._run_dir):
            digest = next(e["files"][name] for e in self._ledger.entries.values() if name in e["files"])
            if is_as(kept / digest, digest):
                (kept / digest).replace(self._run_dir / name)


def _lost(path: Path, key: str, why: str) -> ResumeError:
    return ResumeError(
        explain(
            expected=f"the file that {key} committed",
            got=("another" if path.is_file() else "none") + f", and it can't be made again: {why}",
            where=str(path),
            do="restore it from a backup, or start anew with restart=again",
        )
    )
