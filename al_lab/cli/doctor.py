"""What this machine offers and what is missing: one line a fact, one line a problem."""

import argparse
import importlib
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from al_lab.execution.machine import cpu_count, unusable_gpus, visible_gpus

_NECESSARY = (
    "torch",
    "torchvision",
    "pytorch-lightning",
    "hydra-core",
    "omegaconf",
    "numpy",
    "scipy",
    "scikit-learn",
    "pillow",
    "matplotlib",
    "jinja2",
    "defusedxml",
    "faster-coco-eval",
    "pyyaml",
    "rich",
)
_OPTIONAL = {
    "wandb": "tracker=wandb",
    "tensorboard": "tracker=tensorboard",
    "submitit": "executor=slurm",
    "ray": "executor=ray",
}
_MM = ("onedl-mmengine", "onedl-mmcv", "onedl-mmdetection")
_TESTED_PYTHON = ((3, 11), (3, 13))  # from, below
# The first of each line whose tarfile keeps filter="data" (CVE-2025-4517).
_SAFE_TARFILE = {(3, 11): (3, 11, 13), (3, 12): (3, 12, 11), (3, 13): (3, 13, 4)}
_GIGABYTE = 1e9

Severity = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Fact:
    """One line of the report.

    Attributes:
        severity: a ``problem`` keeps campaigns from running; a ``note`` takes something optional away.
        remedy: what to do about it.
    """

    severity: Severity
    what: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        sign = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}[self.severity]
        return f"{sign} {self.what:<20} {self.found}" + (f"\n        {'':<20} -> {self.remedy}" if self.remedy else "")


def main(argv: Sequence[str] | None = None) -> int:
    """Print one line a fact; return 1 if something necessary is missing, else 0."""
    parser = argparse.ArgumentParser(prog="al-lab doctor", description=__doc__)
    parser.add_argument("--outputs-dir", type=Path, help="where runs go (default: outputs)")
    parser.add_argument("--data-dir", type=Path, help="where datasets are (default: $AL_LAB_DATA or data)")
    arguments = parser.parse_args(argv)
    facts = diagnose(Path.cwd(), arguments.outputs_dir, arguments.data_dir)
    problems = sum(fact.severity == "problem" for fact in facts)
    end = f"{problems} problem(s): see above" if problems else "Everything necessary is here. Try: al-lab debug=smoke"
    sys.stdout.write("\n".join([*map(str, facts), "", end, ""]))
    return int(has_problem(facts))


def diagnose(root: Path, outputs_dir: Path | None = None, data_dir: Path | None = None) -> list[Fact]:
    """Look at Python, packages, ops, GPU, threads, disk and data.

    Args:
        root: where commands are given.
        outputs_dir: where runs go; below ``root`` by default.
        data_dir: where datasets are; ``$AL_LAB_DATA`` or ``data`` by default.
    """
    outputs_dir = outputs_dir or root / "outputs"
    data_dir = data_dir or Path(os.environ.get("AL_LAB_DATA") or root / "data")
    facts = [
        _python(),
        _unpacking(),
        *_packages(),
        *_mm(),
        *_clashes(),
        *_optional(),
        _compiled(),
        _torch(),
        _threads(),
        _disk(outputs_dir),
    ]
    return facts + _data(root, data_dir)


def has_problem(facts: Sequence[Fact]) -> bool:
    """Whether something necessary is missing."""
    return any(fact.severity == "problem" for fact in facts)


def _python() -> Fact:
    low, high = _TESTED_PYTHON
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info[:2] < low:
        return Fact("problem", "python", found, "Python 3.11 or newer is needed: make setup PYTHON=python3.12")
    if sys.version_info[:2] >= high:
        return Fact(
            "note", "python", found, "newer than what was tested (3.11, 3.12); if something fails, use one of those"
        )
    return Fact("ok", "python", found)


def _unpacking() -> Fact:
    low = _SAFE_TARFILE.get(sys.version_info[:2])
    if low is None or sys.version_info[:3] >= low:
        return Fact("ok", "unpacking", "tarfile keeps archives in their folder")
    return Fact(
        "note",
        "unpacking",
        f"the tarfile of Python {platform.python_version()} lets an archive write outside of its folder "
        f"(CVE-2025-4517)",
        f"al_lab's own downloads do not use that code; unpack other archives with Python {'.'.join(map(str, low))} "
        f"or newer",
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _packages() -> list[Fact]:
    facts = []
    for name in _NECESSARY:
        version = _version(name)
        facts.append(Fact("ok", name, version) if version else Fact("problem", name, "missing", "make setup"))
    return facts


def _optional() -> list[Fact]:
    return [
        Fact("ok", name, version)
        if (version := _version(name))
        else Fact("note", name, f"missing: no {use}", f"pip install {name}")
        for name, use in _OPTIONAL.items()
    ]


def _mm() -> list[Fact]:
    versions = {name: _version(name) for name in _MM}
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        found = f"{', '.join(missing)} missing: no SSD300, no RetinaNet (the tiny detector works)"
        return [Fact("note", "mmdet", found, "make setup")]
    facts = [Fact("ok", name, str(version)) for name, version in versions.items()]
    spec = importlib.util.find_spec("mmcv")  # not mmcv._ext itself: that would import all of mmcv
    is_compiled = spec is not None and any(any(Path(p).glob("_ext.*")) for p in spec.submodule_search_locations or ())
    found = (
        "compiled with mmcv" if is_compiled else "torchvision stand-ins (mmcv is not compiled, which is the usual case)"
    )
    return [*facts, Fact("ok", "mmcv ops", found)]


def _clashes() -> list[Fact]:
    facts = []
    both = [name for name in ("opencv-python", "opencv-python-headless") if _version(name)]
    if len(both) == 2:
        facts.append(
            Fact(
                "problem",
                "opencv",
                "opencv-python and opencv-python-headless are both installed: they overwrite each other",
                "pip uninstall -y opencv-python opencv-python-headless && pip install opencv-python-headless",
            )
        )
    for upstream, fork in (("mmcv", "onedl-mmcv"), ("mmdet", "onedl-mmdetection"), ("mmengine", "onedl-mmengine")):
        if _version(upstream) and _version(fork):
            facts.append(
                Fact(
                    "problem",
                    upstream,
                    f"{upstream} and {fork} are both installed under one import name",
                    f"pip uninstall -y {upstream}",
                )
            )
    return facts


def _compiled() -> Fact:
    spec = importlib.util.find_spec("numpy")
    origin = Path(spec.origin) if spec and spec.origin else None
    if origin is not None and not Path(importlib.util.cache_from_source(str(origin))).exists():
        return Fact(
            "note",
            "byte code",
            "packages are not byte-compiled: every process starts in 22 s instead of 6 s",
            f"{sys.executable} -m compileall -q {origin.parents[1]}",
        )
    return Fact("ok", "byte code", "compiled")


def _torch() -> Fact:
    try:
        torch = importlib.import_module("torch")
        importlib.import_module("torchvision")
    except Exception as error:  # noqa: BLE001 - a broken pair raises many kinds
        remedy = "torch and torchvision must fit together: make setup"
        return Fact("problem", "torch import", f"{type(error).__name__}: {error}", remedy)
    reason = unusable_gpus()
    if reason is not None:
        return Fact(
            "problem", "gpu", f"{len(visible_gpus())} visible, and torch can't use them: {reason[0]}", reason[1]
        )
    if not torch.cuda.is_available():
        return Fact("ok", "gpu", "none: campaigns run on the CPU")
    names = [torch.cuda.get_device_properties(k) for k in range(torch.cuda.device_count())]
    return Fact("ok", "gpu", "; ".join(f"{p.name}, {p.total_memory / 2**30:.0f} GiB" for p in names))


def _threads() -> Fact:
    cores = cpu_count()
    wanted = os.environ.get("OMP_NUM_THREADS")
    found = f"{cores} cores, OMP_NUM_THREADS={wanted or 'not set'}"
    if wanted is not None and wanted.isdigit() and int(wanted) > cores:
        return Fact(
            "note", "threads", found, "more threads than cores slow every process down: export OMP_NUM_THREADS=1"
        )
    return Fact("ok", "threads", f"{found} (workers set their own)")


def _disk(outputs_dir: Path) -> Fact:
    place = next(p for p in (outputs_dir.absolute(), *outputs_dir.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free / _GIGABYTE
    if not os.access(place, os.W_OK):
        return Fact("problem", "outputs", f"{place} can't be written", "choose another folder: runtime.outputs_dir=…")
    if free < 1:
        return Fact(
            "problem",
            "disk",
            f"{free:.1f} GB free at {place}",
            "free some space, or choose another folder: runtime.outputs_dir=…",
        )
    if free < 10:
        return Fact(
            "note",
            "disk",
            f"{free:.1f} GB free at {place}",
            "enough for small runs; ten cycles of SSD300 keep about 3 GB",
        )
    return Fact("ok", "disk", f"{free:.0f} GB free at {place}")


def _data(root: Path, data_dir: Path) -> list[Fact]:
    known: dict[str, tuple[str, Callable[[Path], bool]]] = {
        "voc": ("VOCdevkit", lambda p: (p / "VOC2007" / "JPEGImages").is_dir()),
        "coco": ("coco", lambda p: (p / "annotations").is_dir()),
    }
    facts = []
    for name, (folder, is_there) in known.items():
        path = data_dir / folder
        facts.append(
            Fact("ok", f"dataset={name}", str(path))
            if is_there(path)
            else Fact(
                "note",
                f"dataset={name}",
                f"not at {path}",
                f"al-lab data download {name} (or runtime.data_dir=…)",
            )
        )
    facts.append(Fact("ok", "dataset=shapes", "drawn on first use"))
    shared = Path(os.environ.get("AL_LAB_SHARED_DATA") or root.parent / "shared" / "data")
    if shared.is_dir():
        names = sorted(p.name for p in shared.iterdir() if p.is_dir())
        facts.append(Fact("ok", "small real data", f"{shared}: {', '.join(names)}"))
    else:
        facts.append(
            Fact(
                "note",
                "small real data",
                f"none at {shared}: tests that need real photographs are skipped",
                "set AL_LAB_SHARED_DATA",
            )
        )
    return facts
