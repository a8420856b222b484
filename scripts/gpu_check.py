"""The first half hour on a card: nine points, from "is it seen" to the hours of a paper's protocol.

Each point's numbers are kept on a page of the card as they come; the same command goes on where it was cut off.

    python scripts/gpu_check.py                      # all nine, about 30 minutes
    python scripts/gpu_check.py --points 1 3 6       # these; again although they were done: --again
    python scripts/gpu_check.py --device cpu --smoke # that the check itself runs: tiny networks, a few steps
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from al_lab.benchmarks.gpu import kernels, trainings  # noqa: E402
from al_lab.benchmarks.gpu.page import Page, facts  # noqa: E402
from al_lab.benchmarks.gpu.setup import Seen, Setup  # noqa: E402

_TESTED = ("learners", "objectives", "models", "acquisition", "strategies")
_STRATEGIES = ("mgral", "al_ssl", "density", "ripu")
_KILLED_AFTER_S = 20
_MOST_S = 600
_NEAR = 1e-3  # of the first loss in float32, relative to the CPU's


def seen(setup: Setup) -> Seen:
    """Ask torch and the doctor whether the card is seen."""
    yield "torch.cuda.is_available()", str(torch.cuda.is_available())
    if setup.device == "cuda":
        half = torch.ones(2, device="cuda", dtype=torch.bfloat16).sum().item()
        yield "a sum on the card in bfloat16", f"{half:g} of 2"
    done = _python(setup, "scripts/doctor.py")
    lines = [line.strip() for line in done.stdout.splitlines() if "PROBLEM" in line or " gpu " in line]
    yield "al-lab doctor", "; ".join(lines) or f"exit code {done.returncode}"


def tests(setup: Setup) -> Seen:
    """Run the tests of what computes; on a card only those that ask for equal bits may fail."""
    folders = ["tests/models/test_recent.py"] if setup.smoke else [f"tests/{name}" for name in _TESTED]
    options = ("-q", "-m", "not slow", "-p", "no:cacheprovider", "--tb=no")
    done = _python(setup, "-m", "pytest", *options, *folders)
    lines = done.stdout.strip().splitlines()
    yield "result", lines[-1] if lines else f"exit code {done.returncode}: {done.stderr.strip()[-200:]}"
    for line in lines:
        if line.startswith(("FAILED", "ERROR")):
            yield "failed", line.partition(" ")[2]


def objectives(setup: Setup) -> Seen:
    """Train every objective on every network in three precisions; see tests/device for what a step may cost."""
    from tests.device.cases import DETECTION, DETECTORS, SEGMENTATION, SEGMENTERS, rehearse

    cases = [(n, o) for n in DETECTORS for o in DETECTION] + [(n, o) for n in SEGMENTERS for o in SEGMENTATION]
    cases = [("tiny", "supervised"), ("tiny_segmenter", "segment")] if setup.smoke else cases
    for net, objective in cases:
        folder = Path(tempfile.mkdtemp(dir=setup.scratch))
        with mock.patch("torch.cuda.is_available", return_value=False):
            expected = rehearse(net, objective, 32, folder, steps=2).losses[0]
        words = []
        for precision in (32,) if setup.smoke else (32, "bf16-mixed", "16-mixed"):
            losses = rehearse(net, objective, precision, Path(tempfile.mkdtemp(dir=folder)), steps=20).losses
            off = abs(losses[0] - expected) / abs(expected)
            is_finite = all(abs(loss) < float("inf") for loss in losses)
            verdict = "not finite" if not is_finite else "too far" if precision == 32 and off > _NEAR else "ok"
            words.append(f"{precision}: {verdict}, first loss off by {off:.1e}")
        yield f"{net}, {objective}", "; ".join(words)


def campaigns(setup: Setup) -> Seen:
    """Run whole campaigns with tiny numbers; kill one, and go on with it; look whether the card is empty after."""
    strategies = ("random",) if setup.smoke else _STRATEGIES
    for strategy in strategies:
        yield strategy, _ended(_python(setup, *_campaign(setup, strategy)))
    command = _campaign(setup, strategies[0], "name=killed")
    process = subprocess.Popen([sys.executable, *command], cwd=setup.root, start_new_session=True, **_SILENT)
    time.sleep(2 if setup.smoke else _KILLED_AFTER_S)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    yield f"{strategies[0]}, killed and gone on with", _ended(_python(setup, *command))
    if shutil.which("nvidia-smi"):
        listed = subprocess.run(
            ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader"],
            capture_output=True,
            text=True,
        ).stdout.splitlines()
        others = [line for line in listed if line.split(",")[0].strip() != str(os.getpid())]
        yield "other processes on the card afterwards", "; ".join(others) or "none"


_SILENT = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
POINTS: dict[int, tuple[str, Callable[[Setup], Seen]]] = {
    1: ("Is it seen", seen),
    2: ("Tests of what computes", tests),
    3: ("Every objective on every network", objectives),
    4: ("Whole campaigns", campaigns),
    5: ("Steps a second", trainings.paces),
    6: ("Waits and gaps of 20 ISD steps", trainings.profile),
    7: ("Suppression", kernels.suppression),
    8: ("Greedy selections", kernels.selections),
    9: ("A minute of the main training", trainings.minute),
}


def _campaign(setup: Setup, strategy: str, *overrides: str) -> list[str]:
    kind = ["dataset=streets"] if strategy in ("density", "ripu") else []
    places = [f"runtime.outputs_dir={setup.scratch / 'runs'}", f"runtime.data_dir={setup.scratch / 'data'}"]
    return ["run.py", "debug=smoke", f"strategy={strategy}", *kind, *places, *overrides]


def _python(setup: Setup, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=setup.root, capture_output=True, text=True, timeout=_MOST_S, check=False)


def _ended(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode == 0:
        return "ok"
    return f"exit code {done.returncode}: {' '.join(done.stderr.split())[-300:]}"


def main() -> int:
    """Run the points that are not done yet; return 1 if one of them did not run to its end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="python scripts/gpu_check.py"
    )
    parser.add_argument("--points", type=int, nargs="+", choices=sorted(POINTS), default=sorted(POINTS))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--smoke", action="store_true", help="tiny networks and a few steps")
    parser.add_argument("--again", action="store_true", help="also points that are done")
    parser.add_argument("--photos", type=Path, help="a folder of JPEG files to train on (default: drawn ones)")
    parser.add_argument("--out", type=Path, default=Path("outputs/gpu_check"), help="where the page goes")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("torch sees no GPU: python scripts/doctor.py says why; --device cpu --smoke tries the check itself")
        return 2
    if arguments.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    page, is_whole = Page(arguments.out, facts(arguments.device)), True
    with tempfile.TemporaryDirectory() as scratch:
        setup = Setup(arguments.device, arguments.smoke, ROOT, Path(scratch), arguments.photos)
        for number in arguments.points:
            title, point = POINTS[number]
            if page.is_done(number) and not arguments.again:
                print(f"{number}. {title}: done before")
                continue
            print(f"{number}. {title}", flush=True)
            is_whole &= page.run(number, title, lambda point=point: point(setup), lambda text: print(text, flush=True))
    print(f"\n{page.path}")
    return int(not is_whole)


if __name__ == "__main__":
    sys.exit(main())
