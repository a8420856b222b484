"""What a campaign will cost, before anything of it runs: trainings, steps, GPU hours, disk, people's hours."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from al_lab.cli.tool import parser_of, run

_EXAMPLES = """\
examples:
  al-lab estimate strategy=mgral dataset=voc                  from tables: estimates, marked as such
  al-lab estimate strategy=mgral dataset=voc runtime.num_workers=16 --gpus 8
  al-lab estimate strategy=entropy dataset=shapes --measure   from a minute of this very training on this machine
"""
_GPUS = (1, 4, 8)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the estimate; 0, or 2 if the command can't run."""
    parser = parser_of("estimate", __doc__, _EXAMPLES)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as for a campaign")
    parser.add_argument("--config-dir", "-cd", type=Path, help="your own yamls, as for a campaign")
    parser.add_argument("--gpus", type=int, nargs="+", default=_GPUS, help="days on so many GPUs (default 1 4 8)")
    parser.add_argument("--measure", action="store_true", help="train and predict here; needs the data")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each kind of training (default 60)")
    parser.set_defaults(run=_estimate)
    return run(parser.parse_args(argv))


def _estimate(args: argparse.Namespace) -> int:
    from al_lab.campaign.forecast_tables import sizes_of
    from al_lab.cli.tool import composed
    from al_lab.config.load import validate

    parts = validate(composed(args))
    _check_measured(parts, args.measure)
    sizes = sizes_of(parts)
    measured = _measured(parts, args.seconds) if args.measure else None
    sys.stdout.write("\n".join(_page(parts, sizes, measured, args.gpus)) + "\n")
    return 0


def _is_foreign(parts: Any) -> bool:
    from al_lab.config.foreign import is_foreign

    return is_foreign(parts.config.get("detector")) or is_foreign(parts.config.get("segmenter"))


def _check_measured(parts: Any, is_asked: bool) -> None:
    from al_lab.core.errors import ConfigError, explain

    if is_asked and _is_foreign(parts):
        got, do = "one that its own program trains", "time the program itself; the rest is estimated without --measure"
        raise ConfigError(explain(expected="a network of ours", got=got, where="--measure", do=do))


def _measured(parts: Any, seconds: float) -> Any:
    from al_lab.campaign.forecast_measure import measure
    from al_lab.cli.waiting import said_while

    with said_while("measuring"), tempfile.TemporaryDirectory(prefix="al_lab-estimate-") as folder:
        return measure(parts, Path(folder) / "run", seconds)


def _page(parts: Any, sizes: Any, measured: Any, gpus: Sequence[int]) -> list[str]:
    from al_lab.campaign.forecast import plan

    choices = parts.config["choices"]
    groups = plan(parts, sizes)
    lines = [f"strategy={choices['strategy']} dataset={choices['dataset']}, protocol {choices['protocol']}"]
    lines += [
        f"  pool {sizes.pool:,}, test {sizes.test:,} images ({sizes.origin})",
        *_work(groups, _is_foreign(parts)),
        "",
    ]
    speeds = {} if _is_foreign(parts) else _speeds(parts, measured)
    if not speeds and _is_foreign(parts):
        lines += ["hours: those of the model's own program", ""]
    elif not speeds:
        lines += ["hours: this network is in no table; --measure tells them from a minute here", ""]
    for name, speed in speeds.items():
        lines += [*_hours(name, speed, groups, gpus), ""]
    lines += _ways(parts, sizes, measured, gpus)
    left_out = "left out above: reading images to predict them, and choosing itself (MGRAL's agent, greedy picks)"
    return [*lines, left_out, *_rest(parts, sizes, measured)]


def _work(groups: Any, is_foreign: bool) -> list[str]:
    """Return one line for each kind of work, over all cycles."""
    from al_lab.campaign.forecast import Look

    kinds: dict[str, list[Any]] = {}
    for _, group in groups:
        for item in group:
            kinds.setdefault(item.what, []).append(item)
    lines = []
    for what, items in kinds.items():
        if isinstance(items[0], Look):
            passes = f", each in {items[0].passes} passes with dropout besides" if items[0].passes else ""
            lines.append(f"  {what}: {sum(i.images for i in items):,} looked at in {len(items)} cycles{passes}")
            continue
        if is_foreign:
            lines.append(f"  {what}: {sum(i.count for i in items):,} trainings")
            continue
        count, steps = sum(i.count for i in items), sum(i.count * i.steps for i in items)
        low, high = min(i.steps for i in items), max(i.steps for i in items)
        each = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        lines.append(f"  {what}: {count:,} trainings of {each} steps, {steps:,} in all")
    return lines


def _speeds(parts: Any, measured: Any) -> dict[str, Any]:
    from al_lab.campaign.forecast_speed import card_speed
    from al_lab.campaign.forecast_tables import CARDS

    if measured is not None:
        return {"this machine, measured": measured}
    cards = {f"{card.name} ({card.source})": card_speed(parts, card) for card in CARDS}
    return {name: speed for name, speed in cards.items() if speed is not None}


def _hours(name: str, speed: Any, groups: Any, gpus: Sequence[int]) -> list[str]:
    from al_lab.campaign.forecast import Look, device_seconds, wall_seconds

    all_trainings = sorted((t for _, group in groups for t in group if not isinstance(t, Look)), key=lambda t: t.steps)
    trainings = {t.what: t for t in all_trainings}  # the longest of each kind
    each = ", ".join(f"{what} {_time(speed.training_s(t))}" for what, t in trainings.items())
    wall = ", ".join(f"{_time(wall_seconds(groups, speed, n))} on {n}" for n in gpus)
    lines = [f"{name}:", f"  the longest: {each}", f"  {_time(device_seconds(groups, speed))} of one device; {wall}"]
    if getattr(speed, "images_per_s", None) is None:
        return lines
    cores, fed = speed.fed()
    trained = ", ".join(f"{what} {_time(fed.training_s(t))}" for what, t in trainings.items())
    feeding = f"  (the cores prepare at most {speed.images_per_s:.0f} images a second and device"
    if cores <= 1:
        return [*lines, f"{feeding}, which is enough)"]
    hours = _time(device_seconds(groups, fed))
    return [*lines, f"{feeding}; with runtime.num_workers={cores}: {hours}; {trained})"]


def _ways(parts: Any, sizes: Any, measured: Any, gpus: Sequence[int]) -> list[str]:
    """Return what MGRAL's table costs, made in each of its ways."""
    from al_lab.campaign.forecast import device_seconds, plan, variants, wall_seconds

    lines = []
    for name, (words, way) in variants(parts).items():
        groups = plan(way, sizes)
        for place, speed in _speeds(way, measured).items():
            wall = f"{_time(wall_seconds(groups, speed, max(gpus)))} on {max(gpus)}"
            lines.append(f"  {name:<18} {place.split(' (')[0]}: {_time(device_seconds(groups, speed))}, {wall}")
        lines.append(f"  {'':<18} {words or '(what this command does)'}")
    if lines and measured is None:
        lines += _two_on_a_card(parts, sizes, max(gpus))
    return ["the table's ways (beyond the paper but for rows from scratch):", *lines, ""] if lines else []


def _two_on_a_card(parts: Any, sizes: Any, gpus: int) -> list[str]:
    """Return what this command costs with two trainings on each card."""
    from al_lab.campaign.forecast import plan
    from al_lab.campaign.forecast_speed import side_by_side

    lines, groups = [], plan(parts, sizes)
    for place, speed in _speeds(parts, None).items():
        work, wall = side_by_side(groups, speed, gpus, 2)
        lines.append(f"  {'two on a card':<18} {place.split(' (')[0]}: {_time(work)}, {_time(wall)} on {gpus}")
    return [*lines, f"  {'':<18} executor.workers={2 * gpus} (if memory holds both; gains what waits for images)"]


def _rest(parts: Any, sizes: Any, measured: Any) -> list[str]:
    """Return disk and people."""
    from al_lab.campaign.forecast import disk_bytes, labels
    from al_lab.campaign.forecast_tables import network_of

    kind = "detector" if parts.config.get("detector") else "segmenter"
    network = network_of(parts.config)
    weights = measured.weights if measured is not None else 4 * network.params if network else None
    disk = "unknown (--measure)" if weights is None else f"{disk_bytes(parts, weights) / 1e9:.2f} GB for models"
    asked = labels(parts, sizes)
    counts = [f"{asked.images:,} images"] if asked.images else []
    counts += [f"{asked.boxes:,} boxes"] if asked.boxes else []
    counts += [f"{asked.clicks:,} clicks"] if asked.clicks else []
    unknown = asked.boxes is None and kind == "detector"
    hours = f"{asked.hours:,.1f} hours of people" + (", boxes (of unknown number) left out" if unknown else "")
    return [f"disk: {disk}", f"labels: {', '.join(counts) or 'none'}; {hours} (rates: oracle.seconds_per_…)"]


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours = seconds / 3600
    return f"{seconds / 60:.0f} min" if hours < 2 else f"{hours:,.1f} h" if hours < 100 else f"{hours:,.0f} h"
