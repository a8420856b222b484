"""A training that diverges begins again with a derived seed; killed at any time it has the same model in the end."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from al_lab.core.errors import ConfigError, DivergedError
from al_lab.core.rng import Rng
from al_lab.learners.checkpoint import load_checkpoint
from al_lab.learners.divergence import OnDivergence
from al_lab.learners.settings import TrainSettings
from al_lab.objectives.supervised import Supervised
from tests.learners.ranks import attempt_of

Make = Callable[..., Any]
BREAKS = 5  # the step at which an attempt diverges


def diverging(attempts: int, dies_at: int | None = None, loss: float = float("nan")) -> tuple[type[Supervised], list]:
    """Return an objective whose first attempts diverge, and a list that grows by each step's (attempt, step)."""
    seen: list[tuple[int, int]] = []

    class Diverging(Supervised):
        def forward(self, network: Any, batch: Any, step: int, total_steps: int) -> dict[str, torch.Tensor]:
            attempt = attempt_of(step)
            seen.append((attempt, step))
            if attempt == attempts and step == dies_at:
                raise RuntimeError("power cut")
            parts = super().forward(network, batch, step, total_steps)
            is_broken = attempt < attempts and step == BREAKS
            return {**parts, "loss": parts["loss"] * 0 + loss if is_broken else parts["loss"]}

    return Diverging, seen


def test_another_attempt_is_a_training_with_its_seed_and_learning_rate(make_learner: Make, make_task: Make) -> None:
    rule = {"retries": 2, "lr_scale": 0.5}
    again, plain = make_task("again"), make_task("plain", seed=Rng(0, "attempt", 2).seed())
    scalars = make_learner(diverging(2)[0], recipe={"on_divergence": rule, "lr": 0.04}).fit(again)
    expected = make_learner(recipe={"lr": 0.01}).fit(plain)
    assert scalars == expected | {"diverged": 2, "diverged_step": BREAKS, "lr_factor": 0.25}
    one, two = (load_checkpoint(task.checkpoint) for task in (again, plain))
    assert one["schedule"] == two["schedule"]
    assert all(torch.equal(v, two["state_dict"][k]) for k, v in one["state_dict"].items())
    logs = [(task.scratch_dir / "train_log.csv").read_text() for task in (again, plain)]
    assert logs[0] == logs[1]


def test_killed_in_a_further_attempt_it_goes_on_there_bit_for_bit(make_learner: Make, make_task: Make) -> None:
    whole, cut = make_task("whole"), make_task("cut")
    scalars = make_learner(diverging(1)[0]).fit(whole)
    with pytest.raises(RuntimeError, match="power cut"):
        make_learner(diverging(1, dies_at=6)[0], checkpoint_steps=2).fit(cut)
    objective, seen = diverging(1)
    assert make_learner(objective).fit(cut) == scalars
    assert seen == [(1, 6), (1, 7)]
    assert whole.checkpoint.read_bytes() == cut.checkpoint.read_bytes()
    # killed between the checkpoint and the word that it is done
    assert make_learner(objective).fit(cut) == scalars
    assert len(seen) == 2


def test_a_lost_or_broken_note_of_what_diverged_changes_nothing(make_learner: Make, make_task: Make) -> None:
    whole, cut = make_task("whole"), make_task("cut")
    scalars = make_learner(diverging(1)[0]).fit(whole)
    with pytest.raises(RuntimeError, match="power cut"):
        make_learner(diverging(1, dies_at=6)[0], checkpoint_steps=2).fit(cut)
    (cut.scratch_dir / "diverged.json").write_text("[{")
    assert make_learner(diverging(1)[0]).fit(cut) == scalars
    assert whole.checkpoint.read_bytes() == cut.checkpoint.read_bytes()


def test_given_up_the_same_command_fails_at_once_and_the_printed_remedy_goes_on(
    make_learner: Make, make_task: Make
) -> None:
    task, rule = make_task(), {"retries": 1}
    named = (
        r"all 2 attempts diverged, .* training step 5 of 8: expected a finite loss, got nan on the images block\d\d.*"
        r"trainer.on_divergence.retries=3 trainer.on_divergence.lr_scale=0.5 goes on"
    )
    with pytest.raises(DivergedError, match=named):
        make_learner(diverging(2)[0], recipe={"on_divergence": rule}).fit(task)
    assert not task.checkpoint.exists()
    objective, seen = diverging(2)
    with pytest.raises(DivergedError, match=named):
        make_learner(objective, recipe={"on_divergence": rule}).fit(task)
    assert seen == []
    scalars = make_learner(objective, recipe={"on_divergence": {"retries": 3, "lr_scale": 0.5}}).fit(task)
    # The first attempt is known to diverge; the second has another learning rate now.
    assert [attempt for attempt, step in seen if step == 0] == [1, 2]
    assert (scalars["diverged"], scalars["lr_factor"]) == (2, 0.25)


def test_a_loss_above_the_largest_one_counts_as_diverged(make_learner: Make, make_task: Make) -> None:
    for loss, diverged in ((100.0, 0), (101.0, 1)):
        recipe = {"on_divergence": {"retries": 1, "max_loss": 100}}
        scalars = make_learner(diverging(1, loss=loss)[0], recipe=recipe).fit(make_task(str(loss)))
        assert scalars.get("diverged", 0) == diverged
    with pytest.raises(
        DivergedError, match=r"expected a loss of at most trainer.on_divergence.max_loss=100, got 101 on"
    ):
        recipe = {"on_divergence": {"retries": 0, "max_loss": 100}}
        make_learner(diverging(1, loss=101.0)[0], recipe=recipe).fit(make_task("never"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"retires": 1}, "trainer.on_divergence: expected keys among retries, lr_scale, max_loss, got 'retires'"),
        ({"retries": -1}, "trainer.on_divergence.retries: expected a whole number >= 0, got -1"),
        ({"lr_scale": 0}, r"trainer.on_divergence.lr_scale: expected a number in \(0, 1\], got 0"),
        ({"max_loss": 0}, "trainer.on_divergence.max_loss: expected a finite number > 0, or null, got 0"),
    ],
)
def test_a_wrong_rule_is_named(wrong: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainSettings(batch_size=1, max_iters=1, on_divergence=wrong)


def test_the_rule_is_two_retries_at_the_same_rate_unless_said_otherwise() -> None:
    for node in (None, {}, OnDivergence()):
        rule = TrainSettings(batch_size=1, max_iters=1, on_divergence=node).on_divergence
        assert (rule.retries, rule.lr_scale, rule.max_loss) == (2, 1.0, None)
