"""A Label Studio in an environment of its own, which starts, stops and starts again; nothing of it is left behind."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

VERSION = "1.23.2"
TOKEN = "5e1f" * 10
PATIENCE_S = 900  # its first start makes the tables of a database: a minute, and many on a busy machine


def _installed() -> Path:
    """Return the program, installed once into a cache folder; skip with a sentence where that can't be done."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "al_lab" / f"label_studio-{VERSION}"
    program = root / "bin" / "label-studio"
    if not (root / "complete").is_file():
        shutil.rmtree(root, ignore_errors=True)
        uv = _uv()
        try:
            subprocess.run([*uv, "venv", "-q", "--python", sys.executable, str(root)], check=True, timeout=120)
            # Named, not left to VIRTUAL_ENV: `python -m uv` installs into the environment it runs in.
            into = ["--python", str(root / "bin" / "python")]
            command = [*uv, "pip", "install", "-q", *into, f"label-studio=={VERSION}"]
            subprocess.run(command, check=True, timeout=900)
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"Label Studio {VERSION} can't be installed into {root} here: {error}")
        assert program.is_file(), f"Label Studio went elsewhere than into {root}"
        (root / "complete").touch()
    return program


def _uv() -> list[str]:
    """Return uv beside the interpreter that runs the tests, else the one of the PATH."""
    beside = Path(sys.executable).with_name("uv")
    return [str(beside) if beside.is_file() else "uv"]


class Server:
    """One server with a folder of its own for database and uploads."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program, self.folder = program, folder
        with contextlib.closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        settings = {
            "LABEL_STUDIO_BASE_DATA_DIR": str(self.folder), "DJANGO_DB": "sqlite", "COLLECT_ANALYTICS": "false",
            "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": "", "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        }  # fmt: skip
        command = [
            str(self.program), "start", "--no-browser", "--port", str(self.port), "--internal-host", "127.0.0.1",
            "--username", "a@b.cc", "--password", "abcdef123", "--user-token", TOKEN,
        ]  # fmt: skip
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=os.environ | settings, start_new_session=True
            )
        deadline = time.monotonic() + PATIENCE_S
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "server.log").read_text()[-3000:]
            assert time.monotonic() < deadline, (self.folder / "server.log").read_text()[-3000:]
            time.sleep(0.5)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        """End its process and wait for that."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that answers."""
    made = Server(_installed(), tmp_path_factory.mktemp("label_studio"))
    try:
        made.start()
        yield made
    finally:
        made.stop()
