"""Begun anew, once or each time: what is set aside, what goes on, and whose results count."""

import json
from pathlib import Path

import pytest

from al_lab.campaign import identity
from al_lab.campaign.loop import run_campaign
from al_lab.core.errors import ConfigError, ResumeError
from al_lab.core.record import ledger as ledger_module
from al_lab.core.record.identity import ENVIRONMENT, read_identity
from al_lab.execution.job import Executor, Job, read_result
from al_lab.execution.submitted import Submitted
from al_lab.learners.base import FitTask
from tests.stubs import StubLearner, stub_config

RANDOM = {"_target_": "al_lab.strategies.general.random.Random"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("al_lab.campaign.publish._write_report", lambda *_: None)


def config(restart: object = False, **changes: object) -> dict:
    return stub_config(RANDOM, cycles=1) | {"restart": restart} | changes


def with_lr(lr: float) -> dict:
    return {
        "trainer": {"_target_": "al_lab.learners.settings.TrainSettings", "batch_size": 4, "max_iters": 100, "lr": lr}
    }


def aside(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("run.before-restart-*"))


def test_restart_true_acts_once_and_a_requeued_sweep_ends(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_campaign(config(), run_dir)
    first = read_identity(run_dir)
    assert run_campaign(config(True), run_dir)["status"] == "finished"
    second = read_identity(run_dir)
    assert second["id"] != first["id"]
    assert run_campaign(config(True), run_dir)["status"] == "already finished"
    assert run_campaign(config(), run_dir)["status"] == "already finished"
    assert read_identity(run_dir) == second
    assert aside(tmp_path) == ["run.before-restart-1"]
    assert read_identity(tmp_path / "run.before-restart-1") == first


@pytest.mark.slow
def test_restart_true_of_a_run_that_was_cut_off_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever process was killed: the one that set the old run aside, or a later one."""
    run_dir = tmp_path / "run"
    run_campaign(config(), run_dir)

    class Killed(BaseException):
        pass

    def commit(self: ledger_module.Ledger, *args: object, **kwargs: object) -> None:
        real(self, *args, **kwargs)
        raise Killed

    real = ledger_module.Ledger.commit
    with monkeypatch.context() as patch:
        patch.setattr(identity, "identify", lambda *_: (_ for _ in ()).throw(Killed))
        patch.setattr("al_lab.campaign.loop.identify", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):  # between setting aside and naming the new run
            run_campaign(config(True), run_dir)
    statuses = []
    with monkeypatch.context() as patch:
        patch.setattr(ledger_module.Ledger, "commit", commit)
        while "already finished" not in statuses and len(statuses) < 30:
            try:
                statuses.append(run_campaign(config(True), run_dir)["status"])
            except Killed:
                statuses.append("killed")
    assert len(statuses) > 5 and statuses[-1] == "already finished"
    assert aside(tmp_path) == ["run.before-restart-1"]


@pytest.mark.slow
def test_restart_again_begins_anew_each_time_and_true_goes_on_with_it(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    for _ in range(3):
        assert run_campaign(config("again"), run_dir)["status"] == "finished"
    assert len(aside(tmp_path)) == 2
    assert run_campaign(config(True), run_dir)["status"] == "already finished"


@pytest.mark.slow
def test_restart_true_acts_again_for_other_settings_and_for_fewer_cycles(tmp_path: Path) -> None:
    """What the refusal advises works, also when restart=true was used before."""
    run_dir = tmp_path / "run"
    run_campaign(config(True), run_dir)
    for changed in (with_lr(0.5), {"budget": config()["budget"] | {"cycles": 0}}):
        with pytest.raises(ResumeError, match="restart=true"):
            run_campaign(config(**changed), run_dir)
        assert run_campaign(config(True, **changed), run_dir)["status"] == "finished"
    assert len(aside(tmp_path)) == 2


@pytest.mark.parametrize("damage", [pytest.param("ledger.jsonl", marks=pytest.mark.slow), "config.yaml"])
def test_what_is_advised_for_a_damaged_run_works_also_if_it_was_begun_by_restart(tmp_path: Path, damage: str) -> None:
    run_dir = tmp_path / "run"
    run_campaign(config(True), run_dir)
    (run_dir / damage).write_text("nonsense\n" + "x" * 40 + "\n")
    other = config(**with_lr(0.5))
    with pytest.raises(ResumeError, match="restart=again"):
        run_campaign(other, run_dir)
    assert run_campaign(other | {"restart": "again"}, run_dir)["status"] == "finished"
    assert (tmp_path / "run.before-restart-1" / damage).read_text().startswith("nonsense")


def test_restart_true_goes_on_with_its_run_though_the_settings_file_was_lost(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_campaign(config(True), run_dir)
    (run_dir / "config.yaml").unlink()
    assert run_campaign(config(True), run_dir)["status"] == "already finished"
    assert not aside(tmp_path)


def test_a_wrong_word_is_named_before_anything_is_touched() -> None:
    from al_lab.config.checks import check_root

    with pytest.raises(ConfigError, match="restart: expected false, true or again, got 'yes'"):
        check_root(config("yes"), list(config()))


def test_lost_identity_is_made_again_and_results_that_were_not_committed_do_not_count(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_campaign(config(), run_dir)
    before = read_identity(run_dir)
    (run_dir / ENVIRONMENT).write_text("{")
    assert run_campaign(config(), run_dir)["status"] == "already finished"
    after = read_identity(run_dir)
    assert after["fingerprint"] == before["fingerprint"] and after["id"] != before["id"]


def test_a_job_of_the_old_run_can_neither_answer_for_the_new_one_nor_touch_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver is killed, its job goes on on the cluster; restart=true with another learning rate has the
    same jobs."""
    run_dir = tmp_path / "run"
    jobs: list[Job] = []
    real = Executor.run

    def run(self: Executor, batch: list[Job], *args: object) -> list[dict]:
        jobs.extend(Job.from_json(job.to_json() | {"run": vars(self.identity)}) for job in batch)
        return real(self, batch, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Executor, "run", run)
        patch.setattr(StubLearner, "fit", lambda self, task: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_campaign(config(**with_lr(0.1)), run_dir)
    (old,) = jobs
    Submitted(old, 1, 0, "token", "", "12").write()
    ended: list[Path] = []
    monkeypatch.setattr(identity, "cancel_submitted", ended.append)

    def fit(self: StubLearner, task: FitTask) -> dict[str, float]:
        """While the new run trains, the old run's job tries to work and to answer."""
        outcome = attempt(old)
        assert not outcome["ok"] and "that of run" in outcome["reason"]
        assert read_result(old) is None
        return real_fit(self, task)

    from al_lab.execution.job import attempt

    real_fit = StubLearner.fit
    monkeypatch.setattr(StubLearner, "fit", fit)
    assert run_campaign(config(True, **with_lr(0.2)), run_dir)["status"] == "finished"
    assert ended == [run_dir]
    whole = tmp_path / "whole"
    monkeypatch.setattr(StubLearner, "fit", real_fit)
    run_campaign(config(**with_lr(0.2)), whole)
    for name in ("selections.json", "cycle_00/model.ckpt", "cycle_01/model.ckpt"):
        assert (run_dir / name).read_bytes() == (whole / name).read_bytes()


def test_other_settings_before_the_first_commit_are_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(ledger_module.Ledger, "commit", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_campaign(config(**with_lr(0.1)), run_dir)
    before, ended = read_identity(run_dir), []
    monkeypatch.setattr(identity, "cancel_submitted", ended.append)
    assert run_campaign(config(**with_lr(0.2)), run_dir)["status"] == "finished"
    assert read_identity(run_dir)["id"] != before["id"]
    assert ended == [run_dir]
    assert json.loads((run_dir / ENVIRONMENT).read_text())["packages"]
