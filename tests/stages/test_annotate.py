"""Buying labels from whoever lets a command wait."""

from types import SimpleNamespace
from typing import Any

import pytest

from al_lab.core.budget import Allowance
from al_lab.core.errors import AwaitingLabels
from al_lab.core.files import write_json
from al_lab.core.oracle import Oracle
from al_lab.core.pool import INITIAL
from al_lab.core.record.purchase import Purchase
from al_lab.core.types import Query
from al_lab.stages.annotate import BuyTest, _reveal


class Slow(Oracle):
    """Answers when it is asked for the third time."""

    def __init__(self, wait: bool, did: list[str]) -> None:
        super().__init__()
        self.wait, self.did = wait, did

    def reveal(self, dataset: Any, purchase: Purchase) -> tuple[Query, ...]:
        self.did.append("asked")
        if self.did.count("asked") < 3:
            raise AwaitingLabels("not yet")
        return purchase.queries

    def wait_for_news(self, purchase: Purchase) -> None:
        self.did.append("waited")


@pytest.fixture
def did() -> list[str]:
    return []


@pytest.fixture
def ctx(did: list[str]) -> Any:
    return SimpleNamespace(dataset=None, executor=SimpleNamespace(close=lambda: did.append("workers ended")))


def test_no_worker_is_held_while_people_label(ctx, did, tmp_path):
    order = Purchase(tmp_path, INITIAL, (Query("a"),), Allowance("image", 1))
    assert _reveal(ctx, Slow(True, did), order) == order.queries
    assert did == ["asked", "workers ended", "waited"] * 2 + ["asked"]


def test_without_wait_the_command_ends(ctx, did, tmp_path):
    order = Purchase(tmp_path, INITIAL, (Query("a"),), Allowance("image", 1))
    with pytest.raises(AwaitingLabels, match="not yet"):
        _reveal(ctx, Slow(False, did), order)
    assert did == ["asked"]


def test_a_test_set_is_waited_for_like_any_purchase(ctx, did, tmp_path):
    class Booking(Slow):
        def wait_for_news(self, purchase: Purchase) -> None:
            super().wait_for_news(purchase)
            write_json(purchase.folder / "cost.json", {"images": 1})

    ctx.run_dir, ctx.oracle = tmp_path, Booking(True, did)
    ctx.dataset = SimpleNamespace(test_ids=("a",), image_path=lambda _: tmp_path / "a.jpg")
    assert BuyTest().run(ctx) == {"bought_images": 1}
    assert did == ["asked", "workers ended", "waited"] * 2 + ["asked"]
