"""Nobody is asked for labels by a campaign that could not use them."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from al_lab.campaign.readiness import check_before_asking
from al_lab.config.load import compose
from al_lab.config.parts import Parts
from al_lab.core.errors import LabError
from tests.trees import voc_tree

__all__ = ["voc_tree"]
CAT = ("cat", 5, 5, 30, 30)


@pytest.fixture
def photos(voc_tree: Callable[..., Path]) -> Path:
    """Six images of a pool nobody has labeled, and two labeled ones to measure on."""
    pool = {f"p{n}": None for n in range(6)}
    lists = {"trainval": list(pool), "test": ["t0", "t1"]}
    return voc_tree(pool | {"t0": [CAT], "t1": [CAT]}, lists)


@pytest.fixture
def asking(photos: Path, tmp_path: Path) -> Callable[..., None]:
    """Check a campaign that asks people; some more overrides."""

    def check(*words: str) -> None:
        config = compose(
            [
                "strategy=entropy", "dataset=voc_folder", f"dataset.root={photos}", "oracle=folder", "detector=tiny",
                "debug=smoke", "budget.initial=2", "budget.per_cycle=2", f"runtime.data_dir={tmp_path / 'data'}",
                f"runtime.outputs_dir={tmp_path / 'out'}", "name=x", *words,
            ]
        )  # fmt: skip
        check_before_asking(Parts(config), tmp_path / "out" / "run")

    return check


def test_what_is_ready_passes_and_only_the_store_is_made(asking, tmp_path):
    asking()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "photos"]


def test_a_simulated_oracle_is_not_kept_waiting(asking, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: pytest.fail("nobody is asked"))
    asking("oracle=simulated")


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("Annotations/t1.xml", "t1.xml"),  # the second test label: evaluation would fail after people have labeled
        ("JPEGImages/p5.jpg", "p5.jpg: expected a readable image"),  # scoring would
    ],
)
def test_a_broken_file_is_named(asking, photos, broken, words):
    (photos / broken).write_text("no such thing")
    with pytest.raises(LabError, match=words):
        asking()


def test_weights_are_read_or_fetched(asking, tmp_path, monkeypatch):
    def no_network(*_: Any, **__: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torch.hub.download_url_to_file", no_network)
    weights = f"detector.cache_dir={tmp_path / 'cache'}"
    with pytest.raises(LabError, match="expected to download https://download.pytorch.org/.*no network"):
        asking("detector=squeeze", f"+{weights}", "detector.weights=torchvision://squeezenet1_1")


def test_a_full_disk_and_one_without_inodes(asking, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5_000_000))
        with pytest.raises(LabError, match="expected about 1.. MB of free disk for 3 models and 6 images, got 5 MB"):
            asking()
    monkeypatch.setattr(
        os,
        "statvfs",
        lambda _: SimpleNamespace(f_files=10, f_favail=0, f_frsize=1, f_blocks=10**12, f_bfree=10**12, f_bavail=10**12),
    )
    with pytest.raises(LabError, match="all inodes are used"):
        asking()


@pytest.mark.parametrize("word", ["runtime.data_dir={}", "oracle.folder={}"])
def test_folders_that_can_not_be_written(asking, monkeypatch, tmp_path, word):
    locked = tmp_path / "locked"
    locked.mkdir()

    def refuse(dir: Path) -> Any:  # noqa: A002 - tempfile's word; root may write anywhere
        if Path(dir) == locked:
            raise PermissionError(13, "Permission denied", str(dir))
        return open(os.devnull, "wb")  # noqa: SIM115

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(LabError, match="locked: expected a file or folder this user may use, got no permission"):
        asking(word.format(locked / "below"))


def test_rewards_need_the_set_they_are_measured_on(photos):
    config = compose(["strategy=mgral", "dataset=voc_folder", f"dataset.root={photos}", "strategy.lut.split=val"])
    parts = Parts(config)
    with pytest.raises(LabError, match="strategy.lut.split=val: expected a labeled val set, got none"):
        parts.strategy.check_dataset(parts.dataset)
