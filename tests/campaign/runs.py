"""Small campaigns that are killed, damaged and gone on with, and what their folders say in the end."""

import functools
import json
import shutil
import tempfile
from pathlib import Path

from al_lab.campaign.loop import run_campaign
from tests.stubs import stub_config

DETECTION = {"_target_": "al_lab.strategies.general.core_set.CoreSet"}
PSEUDO = {"_target_": "al_lab.objectives.csd.CSD", "tau": 0.6}
PIXELS = {"_target_": "al_lab.strategies.general.margin.Margin"}


def contents(run_dir: Path) -> dict[str, object]:
    """What a run says in the end; times and job bookkeeping left out."""
    out: dict[str, object] = {}
    for path in sorted(run_dir.rglob("*")):
        name = str(path.relative_to(run_dir))
        if (
            path.is_dir()
            or name in ("run.log", "environment.json", ".lock", "report.html")
            or path.name.startswith("train")
        ):
            continue
        if name == "ledger.jsonl":
            out[name] = [
                {k: v for k, v in json.loads(line).items() if k != "seconds"} for line in path.read_text().splitlines()
            ]
        else:
            out[name] = path.read_bytes()
    return out


_STREETS = tempfile.TemporaryDirectory()  # generated once for all runs below


def segmenter_config(**changes: object) -> dict:
    """Two pixel queries in one continuing training of a real network, which begins without a target label."""
    return stub_config(
        {"_target_": "al_lab.strategies.general.random.Random"},
        dense=True,
        dataset={
            "_target_": "al_lab.data.generated.streets.Streets",
            "data_dir": _STREETS.name,
            "num_source": 3,
            "num_pool": 4,
            "num_test": 2,
            "size_hw": [24, 32],
        },
        segmenter={
            "_target_": "al_lab.models.segmenters.tiny.TinySegmenter",
            "widths": [8, 8, 8],
            "branch": {"dim": 4},
        },
        objective={"_target_": "al_lab.objectives.adapt.Adaptation"},
        budget={
            "_target_": "al_lab.core.budget.Budget",
            "unit": "pixel",
            "initial": 0,
            "per_cycle": 0.01,
            "cycles": 2,
            "scope": "image",
        },
        trainer={
            "_target_": "al_lab.learners.settings.TrainSettings",
            "batch_size": 4,
            "max_iters": 10,
            "decay": "poly",
            "start": "continue",
            "stop_at": [2, 3, 5],
        },
        **changes,
    )


CONFIGS = {
    "segments": lambda: stub_config(
        {"_target_": "al_lab.strategies.segmentation.redal.Redal"},
        dense=True,
        unit="segment",
        oracle={"_target_": "al_lab.labeling.pixels.dominant.DominantOracle"},
    ),
    "segmenter": segmenter_config,
    "images": lambda: stub_config(DETECTION),
    "pixels": lambda: stub_config(PIXELS, dense=True),
    "continue": lambda: stub_config(
        DETECTION,
        trainer={
            "_target_": "al_lab.learners.settings.TrainSettings",
            "batch_size": 4,
            "max_iters": 100,
            "start": "continue",
            "stop_at": [40, 60, 100],
        },
    ),
    "boxes": lambda: stub_config(
        {"_target_": "al_lab.strategies.general.entropy.Entropy"},
        budget={"_target_": "al_lab.core.budget.Budget", "unit": "box", "initial": 6, "per_cycle": 12, "cycles": 2},
    ),
    "pseudo": lambda: stub_config({"_target_": "al_lab.strategies.detection.al_ssl.AlSsl"}, objective=PSEUDO),
}


_FINISHED = tempfile.TemporaryDirectory()


@functools.cache
def _whole(kind: str) -> Path:
    folder = Path(_FINISHED.name) / kind
    assert run_campaign(CONFIGS[kind](), folder / "run")["status"] == "finished"
    return Path(shutil.copytree(folder / "run", folder / "whole"))


def finished(kind: str) -> Path:
    """Return the folder of a finished run of one of `CONFIGS`.

    The campaign runs once in a process; each test finds it as it ended, where it ran: jobs know their results by path.
    """
    whole = _whole(kind)
    for path in whole.parent.iterdir():
        if path != whole:
            shutil.rmtree(path)
    return Path(shutil.copytree(whole, whole.with_name("run")))
