"""Job functions for the executors: a module in a temporary folder, so that workers have to import it by name."""

import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from al_lab.execution.job import Job

JOBS = """
import json, os, signal, subprocess, sys, time
from pathlib import Path

def square(x, **rest):
    print("squaring", x)
    return {"y": x * x, "tags": ["a", "b"]}

def who(x=0):
    return {"pid": os.getpid(), "threads": os.environ.get("OMP_NUM_THREADS"), "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
            "al_lab": os.environ.get("AL_LAB_THREADS"), "cores": os.environ.get("AL_LAB_CORES"), "rank": os.environ.get("RANK")}

def note(log, **rest):
    with open(log, "a") as stream:
        stream.write(f"{os.getpid()}\\n")
    return {}

def loses_its_folder(environment, out):
    from al_lab.core.files import write_text
    write_text(Path(out), "before")
    text = Path(environment).read_text()
    Path(environment).write_text(text.replace('"mine"', '"theirs"'))
    write_text(Path(out), "after")
    return {}

def loses_its_disk(folder):
    from al_lab.core.files import write_text
    import shutil
    shutil.rmtree(folder)
    write_text(Path(folder) / "out", "after")
    return {}

def is_asked_to_end(flag, times=1):
    count = int(Path(flag).read_text()) if Path(flag).exists() else 0
    Path(flag).write_text(str(count + 1))
    if count < times:
        from al_lab.core.errors import Interrupted
        raise Interrupted("SIGTERM, at step 7, which is saved")
    return {"asked": count + 1}

def dies(flag, times=1, how=int(signal.SIGKILL)):
    count = int(Path(flag).read_text()) if Path(flag).exists() else 0
    Path(flag).write_text(str(count + 1))
    print("attempt", count, "says goodbye")
    if count < times:
        os.kill(os.getpid(), how)
        time.sleep(60)
    return {"attempts": count + 1}

def dies_after_commit(result):
    import al_lab.execution.job as job
    def commit_and_die(path, value, write=job.write_json):
        write(path, value)
        os.kill(os.getpid(), signal.SIGKILL)
    job.write_json = commit_and_die
    return {"y": 1}

def refuses():
    from al_lab.core.errors import DataError
    raise DataError("image 'cat.jpg': expected a picture, got a poem; read it aloud")

def breaks(marker=None):
    print("about to divide")
    if marker:
        with open(marker, "a") as stream:
            stream.write("x")
    return {"y": 1 // 0}

def returns(kind):
    return {"set": {"a": {1, 2}}, "nan": {"a": float("nan")}, "list": [1], "none": None}[kind]

def takes_long(pid):
    child = subprocess.Popen(["sleep", "120"])
    Path(pid).write_text(f"{os.getpid()} {child.pid}")
    time.sleep(120)
    return {}

def waits(go, log):
    with open(log, "a") as stream:
        stream.write("started\\n")
    while not Path(go).exists():
        time.sleep(0.05)
    return {"waited": True}

def reports(progress):
    for step in range(3):
        Path(progress + ".new").write_text(json.dumps({"step": step}))
        os.replace(progress + ".new", progress)
        deadline = time.time() + 60
        while not Path(f"{progress}.seen{step}").exists() and time.time() < deadline:
            time.sleep(0.05)
    return {"steps": 3}

def write(path, text):
    if not Path(path).exists():  # as a training does that finds its checkpoint
        Path(path).write_text(text)
    return {}

def meets(folder, number):
    (Path(folder) / str(os.getpid())).write_text(os.environ["CUDA_VISIBLE_DEVICES"])
    deadline = time.time() + 60
    while len(list(Path(folder).iterdir())) < number:
        if time.time() > deadline:
            raise TimeoutError("the others never came")
        time.sleep(0.02)
    return {"gpus": os.environ["CUDA_VISIBLE_DEVICES"]}

class OutOfMemoryError(RuntimeError):
    pass

def needs_memory(name, folder, seconds=0.0, times=0):
    here = Path(folder) / name
    tries = len(list(Path(folder).glob(f"{name}.try*")))
    (Path(folder) / f"{name}.try{tries}").touch()
    here.touch()
    others = sorted(p.name for p in Path(folder).iterdir() if "." not in p.name and p != here)
    try:
        time.sleep(seconds)
        if tries < times:
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
    finally:
        here.unlink()
    return {"beside": others, "gpus": os.environ["CUDA_VISIBLE_DEVICES"]}

def leaves(code):
    sys.exit(code)

def ranks(folder, dead_rank=None, raising_rank=None, flag=None):
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    first = flag is not None and not Path(flag).exists()
    if rank == dead_rank and first:
        Path(flag).write_text("died")
        os.kill(os.getpid(), signal.SIGKILL)
    if rank == raising_rank:
        from al_lab.core.errors import DivergedError
        raise DivergedError("loss is NaN at step 7")
    Path(folder, f"{rank}-{os.environ['MASTER_PORT']}").write_text(os.environ["LOCAL_RANK"])
    deadline = time.time() + 60
    while len(list(Path(folder).glob(f"*-{os.environ['MASTER_PORT']}"))) < world:
        if time.time() > deadline:
            raise TimeoutError("the others never came")
        time.sleep(0.02)
    return {"rank": rank, "world": world, "address": os.environ["MASTER_ADDR"], "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")}
"""  # noqa: E501


@pytest.fixture(autouse=True)
def runtime_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the locks of pretended GPUs away from other tests of this machine."""
    folder = tmp_path / "runtime"
    folder.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder


@pytest.fixture
def make_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    """Make jobs whose functions lie in ``lab_jobs``, importable from a folder that only sys.path knows."""
    package = tmp_path / "path"
    package.mkdir()
    (package / "lab_jobs.py").write_text(textwrap.dedent(JOBS))
    monkeypatch.syspath_prepend(package)

    def make(fn: str, name: str = "", devices: int = 1, **kwargs: Any) -> Job:
        label = name or f"{fn}-{abs(hash(json.dumps(kwargs, sort_keys=True))) % 10**8}"
        return Job(label, f"lab_jobs:{fn}", kwargs, tmp_path / "results" / f"{label}.json", devices)

    return make
