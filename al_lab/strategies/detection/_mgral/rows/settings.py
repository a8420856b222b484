"""What the rows of the table are, and how they are trained: the numbers of ``strategy.lut``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from al_lab.core.errors import ConfigError, explain
from al_lab.core.fields import at_least, between, check_fields, number_in, one_of, optional, positive, share
from al_lab.learners.settings import TrainSettings
from al_lab.strategies.detection._mgral.batches import Batches, RowsFrom

Reward = Literal["training", "gradient"]

_FEWEST = 4  # rows that a rank correlation is made of


@dataclass(frozen=True, kw_only=True)
class LutSettings:
    """How the table is built; the numbers of ``strategy.lut``.

    Liang et al., MGRAL, Sec. 3.3: M rows, each = labeled set + one random unlabeled batch of the query's size, trained
    semi-supervised, and its mAP.

    Attributes:
        rows: M; 200 on VOC, 30 on COCO.
        objective: of the rows: ``isd`` for SSD, ``sed`` for RetinaNet, as a configuration node.
        mode: ``scratch`` (the paper) or ``finetune``: rows start from the row base, a supervised training on the same
            labels.
        trainer: of the rows, as a configuration node; None: the campaign's.
        length: rows train for this fraction of that schedule, milestones included.
        lr_scale: factor on its learning rate: rows that start from the base would undo it at the full one.
        split: what rows are measured on, see `reward_folds`.
        fraction, minimum, folds: of that split.
        metric: the reward; None: the dataset's first metric.
        repeats: rows that are trained again with other seeds, to see how much of the spread is noise.
        seeds: trainings of each of these, the first included.
        batches: which the rows are: ``uniform`` (the paper) or ``clusters``, see `batches`.
        num_clusters: of ``batches=clusters`` and ``rows_from=labeled``.
        rows_from: what a row trains on: the labeled set and a batch without labels (``unlabeled``, the paper), or half
            of the labeled set and a part of the other half, with their labels (``labeled``), see `batches`.
        reward: of a batch: what a ``training`` with it reaches (the paper), or by the ``gradient`` what its labels are
            expected to change in the loss of held-out images, without training any row, see `WeighImages`.
        online: so many times, evenly over the agent's iterations, the batch that it would buy is trained as a row; the
            predictor learns from it at once (beyond the paper, which calls it future work).
        early_stop: rows stop after this fraction of their schedule (beyond the paper); None: at its end.
        calibrate: so many rows are trained to the end to see whether rewards at ``early_stop`` rank rows as those at
            the end do; only then the worse half of the others stops, see `halving`. None: all stop, unseen.
        agreement: the least rank correlation at which they do.
        against_scratch: with ``mode=finetune``, so many batches are trained from scratch as well, once, to report
            whether both rank them alike, see `shared_start`; None: nobody asks.
    """

    rows: int
    objective: Mapping[str, Any]
    mode: Literal["scratch", "finetune"] = "finetune"
    trainer: Mapping[str, Any] | None = None
    length: float = 1.0
    lr_scale: float = 1.0
    split: str = "holdout"
    fraction: float = 0.2
    minimum: int = 50
    folds: int = 5
    metric: str | None = None
    repeats: int = 3
    seeds: int = 3
    early_stop: float | None = None
    batches: Batches = "uniform"
    num_clusters: int = 16
    rows_from: RowsFrom = "unlabeled"
    reward: Reward = "training"
    online: int = 0
    calibrate: int | None = None
    agreement: float = 0.5
    against_scratch: int | None = None

    @property
    def stop_of_all(self) -> float | None:
        """The fraction of the schedule at which every row stops; None: at its end, or by `halving`."""
        return self.early_stop if self.calibrate is None else None

    def __post_init__(self) -> None:
        check_fields(
            vars(self),
            {
                "rows": at_least(2),
                "mode": one_of("scratch", "finetune"),
                "length": positive,
                "lr_scale": positive,
                "seeds": at_least(1),
                "repeats": between(0, self.rows),
                "early_stop": optional(share),
                "batches": one_of(*get_args(Batches)),
                "rows_from": one_of(*get_args(RowsFrom)),
                "reward": one_of(*get_args(Reward)),
                "online": at_least(0),
                "calibrate": optional(between(_FEWEST, self.rows)),
                "agreement": number_in(-1, 1),
                "against_scratch": optional(between(_FEWEST, self.rows)),
            },
            "strategy.lut",
        )
        self._check_rows_from()
        self._check_rungs()
        self._check_without_rows()

    def _check_rows_from(self) -> None:
        """Refuse simulated queries that say nothing of their part."""
        if self.rows_from == "labeled" and (self.mode, self.lr_scale) != ("scratch", 1):
            raise ConfigError(
                explain(
                    expected="rows that are trained as the campaign's models are",
                    got=f"strategy.lut.mode={self.mode} and strategy.lut.lr_scale={self.lr_scale:g}: the base has seen "
                    "every label, so a row that goes on from it says nothing of its part",
                    where="strategy.lut.rows_from=labeled",
                    do="set strategy.lut.mode=scratch strategy.lut.lr_scale=1",
                )
            )
        if self.rows_from == "labeled" and self.split == "kfold":
            raise ConfigError(
                explain(
                    expected="rows that are all measured on the same images",
                    got="strategy.lut.split=kfold",
                    where="strategy.lut.rows_from=labeled",
                    do="set strategy.lut.split=holdout",
                )
            )

    def _check_rungs(self) -> None:
        """Refuse to stop, or to add, rows that are not trained."""
        if self.calibrate is not None and (self.reward, self.rows_from) != ("training", "unlabeled"):
            raise ConfigError(
                explain(
                    expected="rows that are batches of the pool, and are trained",
                    got=f"strategy.lut.reward={self.reward} and strategy.lut.rows_from={self.rows_from}",
                    where="strategy.lut.calibrate",
                    do="set strategy.lut.calibrate=null",
                )
            )
        if self.calibrate is not None and (self.early_stop or 1) == 1:
            raise ConfigError(
                explain(
                    expected="a fraction of the schedule below 1",
                    got=str(self.early_stop),
                    where="strategy.lut.early_stop with strategy.lut.calibrate",
                    do="e.g. set strategy.lut.early_stop=0.25",
                )
            )
        if self.against_scratch is not None and (self.mode, self.reward) != ("finetune", "training"):
            raise ConfigError(
                explain(
                    expected="rows that start from their base",
                    got=f"strategy.lut.mode={self.mode} and strategy.lut.reward={self.reward}",
                    where="strategy.lut.against_scratch",
                    do="set strategy.lut.against_scratch=null",
                )
            )
        if self.online and (self.reward, self.rows_from) != ("training", "unlabeled"):
            raise ConfigError(
                explain(
                    expected="rows that are batches of the pool, and are trained",
                    got=f"strategy.lut.reward={self.reward} and strategy.lut.rows_from={self.rows_from}",
                    where="strategy.lut.online",
                    do="set strategy.lut.online=0",
                )
            )

    def _check_without_rows(self) -> None:
        """Refuse gradients of more than one held-out set, or of what is labeled."""
        if self.reward == "gradient" and (self.split == "kfold" or self.rows_from == "labeled"):
            raise ConfigError(
                explain(
                    expected="one held-out set, and batches of the pool",
                    got=f"strategy.lut.split={self.split} and strategy.lut.rows_from={self.rows_from}",
                    where="strategy.lut.reward=gradient",
                    do="set strategy.lut.split=holdout strategy.lut.rows_from=unlabeled",
                )
            )


def row_trainer(own: Mapping[str, Any] | None, campaign: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe of rows: their own or the campaign's, in whose precision they train where theirs is ``auto``.

    What is as without the key is left out: a table that was begun before there was one goes on.
    """
    node = dict(own or campaign)
    if node.get("precision") == "auto":
        node["precision"] = campaign.get("precision", "auto")
    return {key: value for key, value in node.items() if (key, value) != ("tf32", True)}


def scaled(trainer: Mapping[str, Any], length: float, lr: float = 1.0) -> dict[str, Any]:
    """Return a recipe whose whole schedule is longer or shorter by a factor.

    Its learning rate is higher or lower by another.
    """
    node = dict(trainer)
    if lr != 1:
        node["lr"] = node.get("lr", TrainSettings.lr) * lr
    if length != 1:
        for key in ("max_iters", "max_epochs", "warmup_iters"):
            if node.get(key):
                node[key] = node[key] * length if key == "max_epochs" else max(1, round(node[key] * length))
        node["milestones"] = [
            m * length if node.get("max_epochs") else max(1, round(m * length)) for m in node.get("milestones") or ()
        ]
    return node
