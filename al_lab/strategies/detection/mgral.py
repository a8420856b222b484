"""MGRAL: an agent learns which batch of images would raise the mAP most, and buys that batch."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from al_lab.acquisition.uncertainty import entropy
from al_lab.config.signatures import literal_of
from al_lab.core.budget import Allowance
from al_lab.core.errors import ConfigError, did_you_mean, explain
from al_lab.core.pool import Pool
from al_lab.core.rng import Rng
from al_lab.core.stage import Stage
from al_lab.core.strategy import ProposeContext, Strategy, take_best
from al_lab.core.types import Candidates, DenseView, Detections, ImageView, Query
from al_lab.stages.entropies import box_entropies
from al_lab.strategies.detection._mgral.agent_scores import load_scores
from al_lab.strategies.detection._mgral.build_lut import BuildLut
from al_lab.strategies.detection._mgral.decide import AgentSettings
from al_lab.strategies.detection._mgral.gradient.weigh import WeighImages
from al_lab.strategies.detection._mgral.learning.settings import ReinforceSettings
from al_lab.strategies.detection._mgral.predictor.ridge import FEWEST
from al_lab.strategies.detection._mgral.predictor.table import TableSettings
from al_lab.strategies.detection._mgral.reward_split import measured_set
from al_lab.strategies.detection._mgral.rows.settings import LutSettings
from al_lab.strategies.detection._mgral.train_agent import TrainAgent
from al_lab.strategies.detection._mgral.truth import Truth, TruthSettings
from al_lab.strategies.detection._mgral.world import FACTS


def _refusal(expected: str, got: str, where: str, do: str) -> ConfigError:
    """Return the error of a setting that does not fit."""
    return ConfigError(explain(expected=expected, got=got, where=where, do=do))


class Mgral(Strategy):
    """Performance-guided reinforced active learning.

    Liang et al., "Performance-guided Reinforced Active Learning for Object Detection", 2026 (arXiv 2601.15688). There
    is no public code; what the paper leaves open is decided, and said, where it belongs:

    | step | paper | where |
    |---|---|---|
    | Phi(I), 256-d, of this cycle's detector | Sec. 4.1 | stage ``score``; ``detector.embedding_from`` |
    | M rows: labeled set + a random batch without labels, trained semi-supervised, its mAP | Sec. 3.3, 3.5 | stage
    ``build_lut``: `BuildLut` |
    | the agent: LSTM over the pool, dummy head, decoder | Sec. 3.2 | `Agent` |
    | mAP of a batch from its neighbors in the table, else by training | Sec. 3.5 | `Table` |
    | reward mAP_i - ref, moving average ref | Eq. 1-3 | `Reinforce` |
    | query: the B images of the largest scores | Sec. 3.2 | here |
    | what batches are worth with their labels (for the report alone) | ours | stage ``truth``: `Truth` |
    | images' gains without rows, in place of table and agent (``lut.reward=gradient``) | ours | stage
    ``weigh_images``: `WeighImages` |

    Args:
        lut: arguments of `LutSettings` and `TableSettings`: how the table is built and read; ``objective`` names one of
            ``objectives``.
        agent: arguments of `AgentSettings`: the agent's form, the controls.
        learning: arguments of `ReinforceSettings`: the policy and its training.
        truth: arguments of `TruthSettings`: what is trained with labels afterwards, for the report.
    """

    needs: ClassVar[tuple[str, ...]] = ("image_embedding",)
    only_views: ClassVar[bool] = False
    also: ClassVar[tuple[str, ...]] = ("class_probs",)  # Fig. 4: the entropies of what was chosen
    tasks: ClassVar[tuple[str, ...]] = ("detection", "segmentation")
    units: ClassVar[tuple[str, ...]] = ("image",)

    def __init__(
        self,
        lut: Mapping[str, Any],
        agent: Mapping[str, Any],
        learning: Mapping[str, Any],
        truth: Mapping[str, Any] | None = None,
    ) -> None:
        lut = {k: v for k, v in lut.items()}
        objectives = lut.pop("objectives")
        reading, building = ({f.name for f in fields(kind)} for kind in (TableSettings, LutSettings))
        strange = {k: v for k, v in lut.items() if k not in reading}  # what neither knows, the second refuses
        shared = {k: v for k, v in lut.items() if k in reading & building}
        self.lut = LutSettings(**(strange | shared | {"objective": _objective(objectives, lut["objective"])}))
        self.table = TableSettings(**{k: v for k, v in lut.items() if k in reading})
        self.agent, self.learning = AgentSettings(**agent), ReinforceSettings(**learning)
        self.afterwards = TruthSettings(**(truth or {}))
        #: regressors see the labeled images, too, and what the detector finds in an image; so does a set without rows
        #: and so do rows of earlier cycles, whose images are embedded anew
        self.scores_labeled = (
            self.table.predictor != "table" or self.lut.reward == "gradient" or self.table.keep is not None
        )
        self._check_rows()
        self._check_kept()
        self._check_agent()
        if self.lut.reward == "gradient":
            self._check_gradient()
        self._scores: dict[str, float] = {}

    def check_task(self, task: str) -> None:
        """Refuse rows that train the other kind of model, and for segmentation what only objects have.

        A segmenter's rows are trained without labels by an objective for segmentation, and rewarded by mIoU (Sec. 4.2:
        "by changing the reward metric"); parts of images are not bought.
        """
        solves = literal_of(str(self.lut.objective.get("_target_")), "task", task)
        if self.lut.rows_from == "unlabeled" and solves != task:
            raise _refusal(
                expected=f"an objective for {task}",
                got=f"one for {solves}",
                where="strategy.lut.objective",
                do=f"set strategy.lut.objective={'negative' if task == 'segmentation' else 'isd'}",
            )
        if task == "segmentation" and self.afterwards.rows:
            raise _refusal(
                expected="0",
                got=str(self.afterwards.rows),
                where="strategy.truth.rows",
                do="set strategy.truth.rows=0: what batches give with their labels is measured of detectors only",
            )
        if task == "segmentation" and self.lut.reward == "gradient":
            raise _refusal(
                expected="training",
                got="gradient",
                where="strategy.lut.reward",
                do="set strategy.lut.reward=training: gradients are asked of detectors only",
            )

    def _check_rows(self) -> None:
        """Refuse rows that nobody could learn from, or that are no batches where some are asked for."""
        is_learned = self.table.predictor != "table"
        if is_learned and self.lut.rows < FEWEST:
            raise _refusal(
                expected=f"at least {FEWEST} rows",
                got=str(self.lut.rows),
                where=f"strategy.lut.rows with strategy.lut.predictor={self.table.predictor}",
                do="raise strategy.lut.rows",
            )
        if self.lut.rows_from == "labeled" and not is_learned:
            raise _refusal(
                expected="strategy.lut.predictor=ridge | ensemble | auto",
                got=str(self.table.predictor),
                where="strategy.lut.rows_from=labeled",
                do="set strategy.lut.predictor=auto: a table looks for rows like a batch, and parts of the labeled "
                "set are none",
            )
        if self.afterwards.rows and self.lut.rows_from == "labeled":
            raise _refusal(
                expected="rows that are batches of the pool",
                got=f"strategy.truth.rows={self.afterwards.rows} with rows whose labels were bought long ago",
                where="strategy.lut.rows_from=labeled",
                do="set strategy.truth.rows=0",
            )

    def _check_agent(self) -> None:
        """Refuse an agent whose settings leave nothing to judge by, to draw, or to keep in order."""
        is_by_rows = self.lut.reward == "training"
        if is_by_rows and self.agent.gate == "random" and (self.lut.repeats < 1 or self.lut.seeds < 2):  # noqa: PLR2004
            raise _refusal(
                expected="rows that are trained again, to know what noise does",
                got=f"strategy.lut.repeats={self.lut.repeats} and strategy.lut.seeds={self.lut.seeds}",
                where="strategy.agent.gate=random",
                do="e.g. set strategy.lut.repeats=4 strategy.lut.seeds=2",
            )
        if self.agent.clusters and (self.learning.reshuffle or self.agent.order == "reshuffle"):
            raise _refusal(
                expected="clusters in one order",
                got="a new order every iteration",
                where="strategy.agent.clusters",
                do="set strategy.learning.reshuffle=false and strategy.agent.order=perm",
            )
        if self.agent.query == "annealed" and self.learning.is_of_top:
            raise _refusal(
                expected="a policy that draws",
                got="the reward of the largest scores, which are the same however sharp it is",
                where="strategy.agent.query=annealed",
                do="set strategy.learning.reward_of=draw strategy.learning.policy=pl, or strategy.agent.query=top",
            )
        if self.lut.online and self.agent.query == "set":
            raise _refusal(
                expected="an agent, whose batches are trained on the way",
                got="a search over sets",
                where="strategy.lut.online with strategy.agent.query=set",
                do="set strategy.lut.online=0",
            )

    def _check_kept(self) -> None:
        """Refuse to keep rows that no later cycle could compare with its own."""
        if self.table.keep is not None and (self.lut.reward, self.lut.rows_from) != ("training", "unlabeled"):
            raise _refusal(
                expected="rows that are batches of the pool, and are trained",
                got=f"strategy.lut.reward={self.lut.reward} and strategy.lut.rows_from={self.lut.rows_from}",
                where="strategy.lut.keep",
                do="set strategy.lut.keep=null",
            )

    def _check_gradient(self) -> None:
        """Refuse what nobody reads where no row is trained and no agent learns."""
        for name, value, only in (
            ("lut.predictor", self.table.predictor, ("table",)),
            ("agent.query", self.agent.query, ("top", "set")),
        ):
            if value not in only:
                raise _refusal(
                    expected=" | ".join(only),
                    got=repr(value),
                    where=f"strategy.{name} with strategy.lut.reward=gradient",
                    do=f"set strategy.lut.reward=training, or strategy.{name}={only[0]}: no row is trained that a "
                    "predictor or an agent could learn from",
                )
        if self.agent.gate == "random" and self.afterwards.rows:
            raise _refusal(
                expected="warn",
                got="'random'",
                where="strategy.agent.gate with strategy.lut.reward=gradient and strategy.truth.rows",
                do="set strategy.agent.gate=warn: a closed gate leaves no value that labels could be held against",
            )

    def check_model(self, network: Any) -> None:
        """Refuse a detector that lacks what rewards are made of: class layers, or what the rows' objective compares."""
        if self.lut.reward == "gradient":
            network.class_layers()
            return
        lacking = set(literal_of(str(self.lut.objective.get("_target_")), "needs", ())) - set(network.provides)
        if lacking:
            raise _refusal(
                expected=f"a detector with {', '.join(sorted(lacking))}, which the rows' objective compares",
                got=type(network).__name__,
                where="strategy.lut.objective",
                do="choose a detector with anchors, another strategy=…, or rows without it, which learn from labels "
                "alone: '+strategy.lut.objectives.supervised={_target_: al_lab.objectives.supervised.Supervised}' "
                "strategy.lut.objective=supervised strategy.lut.rows_from=labeled",
            )

    def check_dataset(self, dataset: Any) -> None:
        """Refuse a dataset without the images, or the metric, by which rewards are to be measured."""
        measured_set(self.lut.split, dataset)
        if self.lut.metric is not None and self.lut.metric not in dataset.metrics:
            raise _refusal(
                expected=" | ".join(dataset.metrics),
                got=repr(self.lut.metric),
                where="strategy.lut.metric",
                do="set strategy.lut.metric=null, the first of dataset.metrics, or add it to dataset.metrics",
            )

    def stages(self) -> list[str | Stage]:
        """Return the standard stages with the table and the agent before the selection, and the truth after it."""
        table = BuildLut(self.lut)
        choosing: list[Stage] = (
            [WeighImages(table, self.agent.query, self.agent.gate)]
            if self.lut.reward == "gradient"
            else [table, TrainAgent(self.agent, self.learning, self.table, table)]
        )
        return [
            "train",
            "evaluate",
            "score",
            *choosing,
            "select",
            *([Truth(self.afterwards, table)] if self.afterwards.rows else []),
            "annotate",
        ]

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Return the image with its embedding; the agent needs the whole pool to score it."""
        if view.embedding is None:
            raise TypeError(
                "Mgral.propose: expected an embedding, got a view without; the learner must provide image_embedding"
            )
        info = {"embedding": np.asarray(view.embedding, np.float32)[None]}
        if self.table.predictor != "table":
            info |= {name: np.array([value]) for name, value in zip(FACTS, _facts(view), strict=False)}
        return Candidates.images([view.sample_id], [0.0], **info)

    def needs_for(self, unit: str) -> tuple[str, ...]:
        """Return the embedding, and for regressors what the model finds."""
        return self.needs if self.table.predictor == "table" else (*self.needs, "class_probs")

    def restore(self, cycle_dir: Path) -> None:
        """Read the trained agent's scores."""
        self._scores = load_scores(cycle_dir)

    def select(self, candidates: Candidates, pool: Pool, budget: Allowance, rng: Rng) -> list[Query]:
        """Return the B images of the largest scores: the policy's mode."""
        scores = [self._scores.get(i, 0.0) for i in candidates.sample_ids]
        return take_best(Candidates.images(candidates.sample_ids, scores), pool, budget, rng)


def _facts(view: ImageView | DenseView) -> tuple[float, ...]:
    """Return the first of `FACTS`: both of an image with boxes, the entropy of one with pixels."""
    if isinstance(view, DenseView):
        return (float(entropy(view.probs, dim=0).double().mean()),)
    return () if view.detections is None else _expected(view.detections)


def _expected(found: Detections) -> tuple[float, float]:
    """Return the sum of the boxes' entropies, nats, and how many objects there should be: the sum of confidences."""
    if not len(found):
        return 0.0, 0.0
    return float(box_entropies(found).sum()), float(torch.from_numpy(found.confidence).sum())


def _objective(objectives: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if name not in objectives:
        raise _refusal(
            expected=" | ".join(objectives),
            got=repr(name),
            where="strategy.lut.objective",
            do=did_you_mean(str(name), tuple(objectives)),
        )
    node: Mapping[str, Any] = objectives[name]
    return node
