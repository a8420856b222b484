"""Buy labels: the initial set before cycle 0, the strategy's queries at the end of a cycle."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from al_lab.core.budget import Allowance
from al_lab.core.errors import ConfigError, DataError, explain
from al_lab.core.files import read_json, write_json
from al_lab.core.oracle import Oracle, SimulatedOracle
from al_lab.core.pool import INITIAL, TEST, Pool, purchase_dir
from al_lab.core.record.predictions import load_predictions, save_predictions
from al_lab.core.record.purchase import Purchase, pixel_files, publish_selections, read_queries, write_queries
from al_lab.core.rng import Rng
from al_lab.core.stage import Stage, StageContext
from al_lab.core.strategy import Strategy
from al_lab.core.types import Query
from al_lab.stages.score import pseudo_tau
from al_lab.stages.sharding import remove_shards, run_sharded
from al_lab.stages.survey import cold_start_ids, read_left_out
from al_lab.stages.waiting import answered

log = logging.getLogger(__name__)


def _reveal(ctx: StageContext, oracle: Oracle, purchase: Purchase) -> tuple[Query, ...]:
    """Reveal the labels, see `answered`."""
    return answered(ctx, oracle, lambda: oracle.reveal(ctx.dataset, purchase), lambda: oracle.wait_for_news(purchase))


def _buy(ctx: StageContext, oracle: Oracle, purchase: Purchase) -> dict[str, float]:
    """Reveal, then write the pool the next training sees."""
    # An initial set may be empty on purpose: nothing is revealed, and that is in the books.
    bought = _reveal(ctx, oracle, purchase) if purchase.queries else oracle.deliver(ctx.dataset, purchase, {})
    if purchase.queries and not bought:
        got = f"the first needs more than {purchase.allowance.amount} {purchase.allowance.unit}s"
        raise DataError(
            explain(
                expected="at least one image within the budget",
                got=got,
                where=f"purchase of cycle {purchase.cycle}",
                do=f"budget.cycles={purchase.cycle} ends the run here, with all that it has bought; a larger "
                f"budget.per_cycle "
                "needs a new run (name=…)",
            )
        )
    pool = ctx.pool.acquire(bought, purchase.cycle)
    write_json(purchase_dir(ctx.run_dir, purchase.cycle + 1) / "pool.json", pool.to_json())
    publish_selections(ctx.run_dir, range(purchase.cycle + 1))
    cost = read_json(purchase.folder / "cost.json")
    return {f"bought_{k}": v for k, v in cost.items()} | {"num_labeled": len(pool.labeled())}


class BuyTest(Stage):
    """A test set where nobody has labeled one -> ``test/``. Its images never enter the pool."""

    name = "buy_test"
    is_first = True

    def run(self, ctx: StageContext) -> dict[str, float]:
        """Reveal what was drawn; people are asked as for any purchase."""
        folder = purchase_dir(ctx.run_dir, TEST)
        ids = ctx.dataset.test_ids
        allowance = Allowance("image", len(ids))
        write_queries(folder, [Query(i) for i in ids], allowance, {i: str(ctx.dataset.image_path(i)) for i in ids})
        _reveal(ctx, ctx.oracle, Purchase(ctx.run_dir, TEST, read_queries(folder), allowance))
        return {f"bought_{k}": v for k, v in read_json(folder / "cost.json").items()}

    def files(self, ctx: StageContext) -> list[Path]:
        """Return queries, labels and cost."""
        return _purchase_files(purchase_dir(ctx.run_dir, TEST), purchase_dir(ctx.run_dir, TEST))

    def inputs(self, ctx: StageContext) -> list[Path]:
        """Return nothing: it is the first."""
        return []


class Initialize(Stage):
    """The initial set -> ``initial/``, ``cycle_00/pool.json``."""

    name = "initialize"
    is_first = True

    def run(self, ctx: StageContext) -> dict[str, float]:
        """Choose (or take what is annotated already) and reveal. The choice depends on ``split_seed`` alone.

        With ``budget.initial=0`` segmentation begins without a target label.
        """
        count = ctx.budget.initial_images(len(ctx.pool))
        oracle: Oracle = ctx.oracle
        if count is None:
            ids = [i for i in ctx.pool.ids if ctx.dataset.has_truth(i)]
            oracle = SimulatedOracle(**oracle.rates)
        else:
            ids = list(_initial_ids(ctx, count, Rng(int(ctx.config["split_seed"]), "initial")))
        # a segmenter may learn from a source domain alone
        if not ids and (ctx.dataset.task == "detection" or count is None):
            raise ConfigError(
                explain(
                    expected="an initial set",
                    got="no image" + (" with labels" if count is None else ""),
                    where="budget.initial",
                    do="give a number of images to label first, such as budget.initial=50",
                )
            )
        folder = purchase_dir(ctx.run_dir, INITIAL)
        allowance = Allowance("image", len(ids))
        write_queries(folder, [Query(i) for i in ids], allowance, {i: str(ctx.dataset.image_path(i)) for i in ids})
        return _buy(ctx, oracle, Purchase(ctx.run_dir, INITIAL, read_queries(folder), allowance))

    def files(self, ctx: StageContext) -> list[Path]:
        """Return queries, labels, cost and the first pool."""
        folder = purchase_dir(ctx.run_dir, INITIAL)
        shared = ctx.run_dir / "pool_stats.json"
        return [*_purchase_files(folder, ctx.cycle_dir), *([shared] if shared.is_file() else [])]

    def inputs(self, ctx: StageContext) -> list[Path]:
        """Return nothing: it is the first."""
        return []


def _initial_ids(ctx: StageContext, count: int, rng: Rng) -> Sequence[str]:
    """Return the initial set: a cold start's, unless the strategy brings its own, as a list to be replayed does."""
    brings_its_own = type(ctx.strategy).initial is not Strategy.initial
    if ctx.budget.initial_by == "cold_start" and count and not brings_its_own:
        return cold_start_ids(ctx, count, rng)
    found: Sequence[str] = ctx.strategy.initial(ctx.pool, count, rng)
    return found


class Annotate(Stage):
    """``queries.json`` -> labels, cost, and the next cycle's ``pool.json``."""

    name = "annotate"

    def run(self, ctx: StageContext) -> dict[str, float]:
        """Reveal what was selected."""
        queries = read_queries(ctx.cycle_dir)
        predictions = (
            ctx.cycle_dir / "prelabels.npz"
            if ctx.oracle.wants_predictions and ctx.dataset.task == "detection"
            else None
        )
        if predictions and not predictions.is_file():  # asked again while people label: the pre-labels are there
            paths = run_sharded(
                ctx, "prelabel", "predict", [q.sample_id for q in queries], ctx.cycle_dir / "model.ckpt", ".npz"
            )
            save_predictions(predictions, load_predictions(paths))
            remove_shards(paths)
        allowance = ctx.budget.allowance(ctx.cycle, len(ctx.pool))
        scalars = _buy(ctx, ctx.oracle, Purchase(ctx.run_dir, ctx.cycle, queries, allowance, predictions))
        return scalars | self._judge_pseudo(ctx)

    @staticmethod
    def _judge_pseudo(ctx: StageContext) -> dict[str, float]:
        """Let the oracle say how good the pseudo-labels of the next training are.

        Only the report reads it.
        """
        tau = pseudo_tau(ctx)
        if tau is None:
            return {}
        unlabeled = set(load_pool(ctx.dataset, ctx.run_dir, ctx.cycle + 1).unlabeled())
        pseudo = {i: d for i, d in load_predictions([ctx.cycle_dir / "pseudo.npz"]).items() if i in unlabeled}
        stats = ctx.oracle.judge(ctx.dataset, pseudo)
        boxes = sum(len(d) for d in pseudo.values())
        write_json(
            ctx.cycle_dir / "pseudo_stats.json",
            {"tau": tau, "unlabeled": len(unlabeled), "images": len(pseudo), "boxes": boxes, **stats},
        )
        return {"pseudo_precision": stats["precision"]} if stats["precision"] is not None else {}

    def files(self, ctx: StageContext) -> list[Path]:
        """Return labels, cost and the next pool."""
        return _purchase_files(ctx.cycle_dir, purchase_dir(ctx.run_dir, ctx.cycle + 1))

    def inputs(self, ctx: StageContext) -> list[Path]:
        """Return the model where people get its boxes to correct."""
        asks = ctx.oracle.wants_predictions and ctx.dataset.task == "detection"
        return super().inputs(ctx) if asks and not (ctx.cycle_dir / "prelabels.npz").is_file() else []


def _purchase_files(folder: Path, next_cycle: Path) -> list[Path]:
    names = ("queries.json", "labels.jsonl", "cost.json", "oracle_stats.json", "pseudo_stats.json")
    paths = [*(folder / name for name in names), *pixel_files(folder), next_cycle / "pool.json"]
    return [path for path in paths if path.is_file()]


def load_pool(dataset: Any, run_dir: Path, cycle: int) -> Pool:
    """Return the pool at the start of a cycle; before the initial purchase (cycle `INITIAL`) nothing is labeled."""
    path = purchase_dir(run_dir, cycle) / "pool.json"
    left_out = frozenset(row.sample_id for row in read_left_out(run_dir) if row.for_good)
    if cycle == INITIAL or not path.is_file():
        return Pool(tuple(dataset.pool_ids), run_dir=run_dir, apart=dataset.apart, left_out=left_out)
    return Pool.from_json(read_json(path), dataset.pool_ids, run_dir, dataset.apart, left_out)
