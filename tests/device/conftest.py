"""The make-believe GPU, compiled once a session."""

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.cpp_extension import include_paths, library_paths

_SOURCE = Path(__file__).with_name("guard.cpp")


@pytest.fixture(scope="session")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the compiled module that answers torch's questions about a device."""
    if torch.cuda.is_available():
        pytest.skip("a real GPU is here: scripts/gpu_check.py runs the real thing")
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None or not Path(sysconfig.get_path("include"), "Python.h").is_file():
        pytest.skip("no C++ compiler, or no Python.h, to build the make-believe GPU with")
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # what the processes of a session share
    library = folder / "guard.so"
    with (folder / "guard.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            includes = [f"-I{path}" for path in (*include_paths(), sysconfig.get_path("include"))]
            links = [option for path in library_paths() for option in (f"-L{path}", f"-Wl,-rpath,{path}")]
            command = [compiler, "-shared", "-fPIC", "-O0", "-w", "-std=c++20", *includes, str(_SOURCE), *links]
            command += ["-lc10", "-ltorch_cpu", "-o", f"{library}.part"]
            built = subprocess.run(command, capture_output=True, text=True, timeout=300)
            if built.returncode:
                pytest.skip(f"the make-believe GPU can't be built here: {built.stderr.strip()[-300:]}")
            Path(f"{library}.part").rename(library)
    spec = importlib.util.spec_from_file_location("guard", library)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads on a busy machine are five times slower than one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
