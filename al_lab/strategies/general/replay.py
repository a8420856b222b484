"""Replay: buy a published list of selections again."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from al_lab.core.budget import Allowance
from al_lab.core.documents import Source
from al_lab.core.errors import ConfigError, did_you_mean, explain
from al_lab.core.fields import at_least, shown
from al_lab.core.pool import INITIAL, Pool
from al_lab.core.record.purchase import QueryRow, read_rows
from al_lab.core.rng import Rng
from al_lab.core.strategy import ProposeContext, Strategy
from al_lab.core.types import Candidates, DenseView, ImageView, Query


class Replay(Strategy):
    """Buys, cycle by cycle, what another run bought: its ``selections.json``, with the masks beside it for pixels.

    Every run writes that file, so a published selection can be retrained with another network, seed or schedule.

    Args:
        path: the published ``selections.json``.

    Raises:
        ConfigError: if it is none; naming the purchase, the row and the field that makes no sense.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    only_views: ClassVar[bool] = False
    tasks: ClassVar[tuple[str, ...]] = ("detection", "segmentation")
    units: ClassVar[tuple[str, ...]] = ("image", "box", "pixel", "region", "segment")

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        do = f"point strategy.path={path} to the selections.json in the folder of the run to replay"
        source = Source(self.path, 'a selections.json: {"purchases": [{"cycle", "queries"}]}', do, ConfigError)
        self._rows: dict[int, list[QueryRow]] = {}
        for purchase in source.read_entry().entries("purchases"):
            cycle = purchase.read("cycle", at_least(INITIAL))
            if cycle in self._rows:
                raise purchase.wrong("cycle", "each cycle once", f"{cycle} twice")
            self._rows[cycle] = read_rows(purchase)
        bought: dict[str, int] = {}
        for cycle, rows in sorted(self._rows.items()):
            for row in rows:
                if row.sample_id in bought:
                    got = f"{shown(row.sample_id)} in cycle {cycle}, bought whole in cycle {bought[row.sample_id]}"
                    raise source.wrong("each image bought whole once, as the last of its purchases", got)
                if row.mask is None:
                    bought[row.sample_id] = cycle
        self._cycle = INITIAL

    def initial(self, pool: Pool, count: int, rng: Rng) -> Sequence[str]:
        """Return the published initial set."""
        return [q.sample_id for q in self._queries(INITIAL, pool)]

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Value every image alike: the list decides."""
        return Candidates.images([view.sample_id], [0.0])

    def restore(self, cycle_dir: Path) -> None:
        """Remember which cycle it is."""
        self._cycle = int(cycle_dir.name.rsplit("_", 1)[1])

    def select(self, candidates: Candidates, pool: Pool, budget: Allowance, rng: Rng) -> list[Query]:
        """Return the published queries of this cycle."""
        return self._queries(self._cycle, pool)

    def _queries(self, cycle: int, pool: Pool) -> list[Query]:
        if cycle not in self._rows:
            raise ConfigError(
                explain(
                    expected=f"queries for cycle {cycle}",
                    got=f"cycles {sorted(c for c in self._rows if c >= 0)}",
                    where=str(self.path),
                    do="lower budget.cycles to the number of published queries",
                )
            )
        ids = set(pool.ids)
        for row in self._rows[cycle]:
            if row.sample_id not in ids or row.sample_id in pool.whole:
                known = did_you_mean(row.sample_id, pool.ids[:2000]) if row.sample_id not in ids else ""
                raise ConfigError(
                    explain(
                        expected="unlabeled samples of the pool",
                        got=f"{shown(row.sample_id)}, "
                        f"{'bought before' if row.sample_id in ids else 'which is not in it'}",
                        where=f"{self.path}: cycle {cycle}",
                        do=f"{known} Replay a list of this dataset's samples".strip(),
                    )
                )
        return [row.query(self.path.parent) for row in self._rows[cycle]]
