"""Points 5, 6 and 9: steps a second by loader processes and precision, a profile, and a minute of the main training."""

import contextlib
import functools
import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from al_lab.benchmarks.gpu.setup import Photos, Seen, Setup
from al_lab.config.build import build
from al_lab.config.options import option
from al_lab.config.runtime import SPEED
from al_lab.data.transforms.detection import SSDAugmentation
from al_lab.learners.base import FitTask
from al_lab.learners.detection import DetectionLearner
from al_lab.learners.settings import TrainSettings
from al_lab.models.detectors.tiny import TinyDetector
from al_lab.objectives.csd import CSD
from al_lab.objectives.isd import ISD
from al_lab.objectives.supervised import Supervised

_WORKERS = (0, 4, 8, 14)
_BATCH = 32  # SSD300's under AL-SSL's protocol
_STEPS_OF_AL_SSL = 120_000 * 6  # al_ssl on VOC: a training of the first images, and one after each of 5 queries
_NONE = dict.fromkeys(SPEED, False)
_ALL = dict.fromkeys(SPEED, True) | {"compile": False}
_ISD_WAITS = 6  # without the wait for the loss, which torch's debug mode does not count


def paces(setup: Setup) -> Seen:
    """Measure what feeds the device best, then what each of its modern options pays alone; this decides defaults."""
    steps, found = (2 if setup.smoke else 40), dict[int, float]()
    for workers in (0, 1) if setup.smoke else _WORKERS:
        found[workers], memory = _train(setup, Supervised, steps, workers=workers)
        yield f"supervised, runtime.num_workers={workers}", f"{_pace(found[workers])}{memory}"
    best = max(found, key=lambda workers: found[workers])
    half = {"precision": "bf16-mixed"}
    variants: dict[str, dict[str, Any]] = {
        "trainer.tf32=false": {"tf32": False},
        "trainer.precision=bf16-mixed": half,
        **{f"runtime.speed.{word}=true": {"speed": {word: True}} for word in SPEED if word != "compile"},
        "bf16-mixed and all of these": half | {"speed": _ALL},
        "… and runtime.speed.compile=true": half | {"speed": _ALL | {"compile": True}},
    }
    for name, options in variants.items():
        pace, memory = _train(setup, Supervised, 2 * steps, workers=best, **options)
        yield f"… with {best} loaders and {name}", f"{_pace(pace)}{memory}; {pace / found[best]:.2f}x"


def profile(setup: Setup) -> Seen:
    """Count the host's waits in 20 steps of ISD, and how long the device had nothing to do."""
    steps = 2 if setup.smoke else 20
    with _counted_waits(setup) as waits:
        pace, _ = _train(setup, ISD, steps, workers=0)
    yield "waits a step that torch sees (budget)", f"{len(waits) / steps:.1f} ({_ISD_WAITS})"
    for place in sorted(set(waits), key=waits.count, reverse=True)[:12]:
        yield f"… at {place}", f"{waits.count(place) / steps:.1f}"
    if setup.device != "cuda":
        return
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        pace, _ = _train(setup, ISD, steps, workers=0)
    busy_s = sum(event.self_device_time_total for event in seen.key_averages()) / 1e6
    yield "device busy, of the time of all steps", f"{100 * busy_s * pace / steps:.0f} % at {_pace(pace)}"


def minute(setup: Setup) -> Seen:
    """Train SSD300 with AL-SSL's objective for about a minute, and say what its protocol would take."""
    steps = 2 if setup.smoke else 100
    photos = Photos(_BATCH if setup.smoke else 256, setup.photos)
    yield "photographs", f"{len(photos.pool_ids)} {'drawn' if photos.is_drawn else f'of {setup.photos}'}"
    make = functools.partial(CSD, tau=0.99)
    pace, memory = _train(setup, make, steps, workers=0 if setup.smoke else 14, data=photos, speed=_ALL)
    yield "SSD300, csd_pl", f"{_pace(pace)}{memory}"
    hours = _STEPS_OF_AL_SSL / pace / 3600
    yield "al-lab strategy=al_ssl dataset=voc", f"{hours:,.0f} hours of trainings: {_STEPS_OF_AL_SSL:,} steps"


def _pace(steps_per_s: float) -> str:
    return f"{steps_per_s:.2f} steps/s, {_BATCH * steps_per_s:.0f} images/s"


def _train(
    setup: Setup,
    objective: Callable[[], nn.Module],
    steps: int,
    *,
    workers: int,
    precision: int | str = 32,
    tf32: bool = True,
    speed: Mapping[str, bool] | None = None,
    data: Photos | None = None,
) -> tuple[float, str]:
    """Return steps a second, from the end of the first step, and the memory they took, in words."""
    data = data or Photos(_BATCH if setup.smoke else 128, setup.photos)
    folder = setup.scratch / "training"
    shutil.rmtree(folder, ignore_errors=True)
    data.buy(folder)
    half = len(data.pool_ids) // 2
    settings = TrainSettings(
        batch_size=_BATCH, max_iters=steps, lr=1e-5, precision=precision, tf32=tf32, augmentation=SSDAugmentation()
    )
    make, options = functools.partial(_network, setup), _NONE | dict(speed or {})
    learner = DetectionLearner(data, make, objective, settings, num_workers=workers, speed=options)
    progress = folder / "progress.json"
    if setup.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    learner.fit(_task(folder, data.pool_ids[:half], data.pool_ids[half:], progress))
    pace = float(json.loads(progress.read_text())["it_per_s"])
    peak = f", peak {torch.cuda.max_memory_allocated() / 1e9:.1f} GB" if setup.device == "cuda" else ""
    return pace, peak


def _task(folder: Path, labeled: tuple[str, ...], unlabeled: tuple[str, ...], progress: Path) -> FitTask:
    return FitTask(
        labeled=labeled,
        unlabeled=unlabeled,
        labels_dir=folder,
        checkpoint=folder / "model.ckpt",
        scratch_dir=folder,
        seed=0,
        progress=progress,
    )


def _network(setup: Setup) -> Any:
    if setup.smoke:
        return TinyDetector(20, input_px=32, widths=(8, 8, 16, 16, 16))
    return build(option("detector", "ssd300_voc") | {"weights": None}, num_classes=20)


@contextlib.contextmanager
def _counted_waits(setup: Setup) -> Iterator[list[str]]:
    """Collect where torch's debug mode sees a host wait; on a CPU there are none."""
    places: list[str] = []
    if setup.device != "cuda":
        yield places
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield places
        finally:
            torch.cuda.set_sync_debug_mode("default")
    ours: list[Any] = [w for w in caught if "synchronizing CUDA operation" in str(w.message)]
    places += [f"{'/'.join(Path(w.filename).parts[-2:])}:{w.lineno}" for w in ours]
