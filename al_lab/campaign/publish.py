"""Shows a campaign to the world while it runs: trackers and report. Nothing here can stop a campaign."""

import csv
import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from al_lab.config.build import build
from al_lab.config.options import changes_detector
from al_lab.core.pool import purchase_dir
from al_lab.core.record.ledger import Ledger
from al_lab.core.record.purchase import read_queries
from al_lab.reporting.document.stamp import is_up_to_date

log = logging.getLogger(__name__)

_MAX_IMAGES = 50
_SECONDS_BETWEEN_REPORTS = 60  # a page takes seconds: cycles as short as that wait for the next one


class Publisher:
    """Sends committed stages to the trackers and renews ``report.html`` after a cycle, at most once a minute."""

    def __init__(self, run_dir: Path, config: Mapping[str, Any], dataset: Any) -> None:
        self.run_dir, self.config, self.dataset = run_dir, config, dataset
        self.tracker: Any = None
        self._reported = time.monotonic()
        _safely("tracker", self._start)

    def _start(self) -> None:
        node = self.config.get("tracker")
        if node:
            self.tracker = build(node)
            self.tracker.start(self.run_dir, self.config)

    def stage_done(self, cycle: int, stage: str, ledger: Ledger) -> None:
        """Publish a stage that was just committed."""
        entry = ledger.entries[Ledger.key(cycle, stage)]
        if self.tracker is not None:
            _safely("tracker", lambda: self._track(cycle, stage, entry))
        if stage == "evaluate" and time.monotonic() - self._reported > _SECONDS_BETWEEN_REPORTS:
            renew_report(self.run_dir, self.config)
            self._reported = time.monotonic()

    def finish(self) -> None:
        """Write the report a last time and close the trackers."""
        renew_report(self.run_dir, self.config)
        if self.tracker is not None:
            _safely("tracker", self.tracker.finish)

    def _track(self, cycle: int, stage: str, entry: dict[str, Any]) -> None:
        self.tracker.log_stage(entry["key"], entry["scalars"], entry["seconds"])
        if stage == "evaluate":
            rows = [json.loads(line) for line in (self.run_dir / "metrics.jsonl").read_text().splitlines()]
            self.tracker.log_cycle(cycle, rows[cycle])
            classes = _classes(purchase_dir(self.run_dir, cycle) / "per_class.csv")
            self.tracker.log_classes(cycle, rows[cycle], classes)
        if stage == "train":
            self.tracker.log_steps(cycle, _steps(purchase_dir(self.run_dir, cycle) / "train_log.csv"))
        if stage == "annotate":
            self.tracker.log_selection(cycle, self._selection(purchase_dir(self.run_dir, cycle)))

    def _selection(self, folder: Path) -> list[dict[str, Any]]:
        path = folder / "labels.jsonl"
        labels = (
            {row["id"]: row["annotation"] for row in map(json.loads, path.read_text().splitlines())}
            if path.is_file()
            else {}
        )
        rows = []
        for query in read_queries(folder)[:_MAX_IMAGES]:
            annotation = labels.get(query.sample_id, {})
            rows.append(
                {
                    "id": query.sample_id,
                    "utility": query.utility,
                    "image": str(self.dataset.image_path(query.sample_id)),
                    "boxes_xyxy": annotation.get("boxes_xyxy", []),
                    "labels": annotation.get("labels", []),
                    "classes": list(self.dataset.classes),
                }
            )
        return rows


def _steps(path: Path) -> dict[str, list[float]]:
    """Return the columns of a training's log; empty if there is none."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as stream:
        rows = [{k: _number(v) for k, v in row.items()} for row in csv.DictReader(stream)]
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}


def _classes(path: Path) -> dict[str, dict[str, float]]:
    """Return metric -> class -> value of an evaluation; empty if there is none."""
    found: dict[str, dict[str, float]] = {}
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                value = _number(row.get("ap") or row.get(row.get("metric") or ""))
                if math.isfinite(value):
                    found.setdefault(row.get("metric") or "metric", {})[str(row.get("class"))] = value
    return found


def _number(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def renew_report(run_dir: Path, config: Mapping[str, Any]) -> None:
    """Write ``report.html`` unless it tells of all that is committed, and is what was written."""
    ledger = run_dir / "ledger.jsonl"
    if ledger.is_file() and not is_up_to_date(run_dir / "report.html", ledger):
        _safely("report", lambda: _write_report(run_dir, image_folders(config)))


def image_folders(config: Mapping[str, Any]) -> list[Path]:
    """Return where the images of a campaign of the user's own are, by the configuration of the user's own command."""
    found = [config.get("runtime", {}).get("data_dir")]
    nodes = [config.get("dataset", {})]
    while nodes:
        node = nodes.pop()
        found += [v for k, v in node.items() if k.endswith(("root", "_dir"))]
        nodes += [v for v in node.values() if isinstance(v, Mapping)]
    return [Path(folder).expanduser() for folder in found if isinstance(folder, str)]


def _write_report(run_dir: Path, folders: list[Path]) -> None:
    from al_lab.reporting.pages.run import write_report  # noqa: PLC0415 - matplotlib takes a second to import

    write_report(run_dir, image_folders=folders, is_changed=changes_detector)


def _safely(what: str, action: Callable[[], Any]) -> None:
    try:
        action()
    except Exception:  # a dashboard that is down must not cost a training
        log.exception("the %s failed; the campaign goes on, its folder has everything", what)
