"""The page of one card: what each point saw, kept as it comes, so that the check goes on where it was cut off."""

import platform
import re
import subprocess
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision

from al_lab import __version__
from al_lab.benchmarks.gpu.setup import Seen
from al_lab.core.files import read_json, write_json, write_text


def facts(device: str) -> dict[str, str]:
    """Return what the numbers of a page belong to: card, driver, versions."""
    versions = {
        "torch": f"{torch.__version__} (CUDA {torch.version.cuda})",
        "torchvision": torchvision.__version__,
        "python": platform.python_version(),
        "al_lab": __version__,
    }
    if device == "cpu":
        return {"card": "none, the CPU", "driver": "none"} | versions
    card = torch.cuda.get_device_properties(0)
    return {"card": f"{card.name}, {card.total_memory / 2**30:.0f} GiB", "driver": _driver()} | versions


def _driver() -> str:
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.split("\n")[0]


class Page:
    """What was seen so far, in ``<folder>/<card>.json`` and, to be read, in ``<card>.md``.

    Args:
        folder: where both go.
        known: what `facts` returned; a page is begun anew where it differs.
    """

    def __init__(self, folder: Path, known: dict[str, str]) -> None:
        name = re.sub(r"[^a-z0-9]+", "_", known["card"].lower()).strip("_")
        self.json_path, self.path = folder / f"{name}.json", folder / f"{name}.md"
        self._facts = known
        stored = read_json(self.json_path) if self.json_path.is_file() else {}
        self._points: dict[str, dict[str, Any]] = stored["points"] if stored.get("facts") == known else {}

    def is_done(self, number: int) -> bool:
        """Say whether a point ran to its end."""
        return bool(self._points.get(str(number), {}).get("done"))

    def run(self, number: int, title: str, point: Callable[[], Seen], tell: Callable[[str], None]) -> bool:
        """Run one point and keep what it sees; an error ends the point alone. Returns whether it ran to its end."""
        begun, rows, done = time.monotonic(), list[list[str]](), True
        try:
            for what, seen in point():
                rows.append([what, seen])
                tell(f"   {what}: {seen}")
        except Exception as error:  # noqa: BLE001 - whatever fails on a new card is what the page is for
            done = False
            where = traceback.extract_tb(error.__traceback__)[-1]
            sentence = " ".join(str(error).split())[:400]
            rows.append(["FAILED", f"{type(error).__name__}: {sentence} ({Path(where.filename).name}:{where.lineno})"])
            tell(f"   FAILED: {rows[-1][1]}")
        seconds = round(time.monotonic() - begun, 1)
        self._points[str(number)] = {"title": title, "rows": rows, "seconds": seconds, "done": done}
        self._write()
        return done

    def _write(self) -> None:
        write_json(self.json_path, {"facts": self._facts, "points": self._points})
        lines = [f"# {self._facts['card']}", "", "| | |", "|---|---|"]
        lines += [f"| {name} | {value} |" for name, value in self._facts.items()]
        for number, point in sorted(self._points.items(), key=lambda item: int(item[0])):
            end = "" if point["done"] else ", not to its end"
            lines += ["", f"## {number}. {point['title']}", "", f"{point['seconds']:g} s{end}.", ""]
            lines += ["| what | seen |", "|---|---|", *(f"| {_cell(a)} | {_cell(b)} |" for a, b in point["rows"])]
        write_text(self.path, "\n".join(lines) + "\n")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
