"""Whether densities lower the bound of a choice on a run's own model, and which: tau x scale, with k-center among them.

Density Matters tunes its densities until the bound of Theorem 2, the largest mean distance of a bought pixel to those
it is nearest to, falls. This command buys the next query of a run again in every way, for nothing and without labels,
and measures that bound over pixels of the whole image and over the candidates alone.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from al_lab.cli.tool import parser_of, run

if TYPE_CHECKING:
    from al_lab.campaign.tune_density import Trial, Tuning

_EXAMPLES = """\
examples:
  al-lab tune-density outputs/streets/density/default/seed0
  al-lab tune-density outputs/streets/density/default/seed0 --cycle 2 --scale relative --tau 0.5 1 2 4
"""
_CLEAR = 2.0  # standard errors


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 0, or 2 if the run has no model or no densities."""
    return run(_parser().parse_args(argv))


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("tune-density", __doc__, _EXAMPLES)
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument("--cycle", type=int, help="whose model; default: the last one's")
    parser.add_argument("--images", type=int, default=8, help="of the pool (default 8)")
    parser.add_argument("--tau", type=_positive, nargs="+", metavar="X", help="default 0.15 0.25 0.5 1 2")
    parser.add_argument("--scale", choices=("minmax", "robust", "relative"), nargs="+", help="default: all three")
    parser.add_argument(
        "--population", choices=("image", "candidates"), default="image", help="whose bound decides (default image)"
    )
    parser.set_defaults(run=_tune)
    return parser


def _positive(word: str) -> float:
    value = float(word)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {word}")
    return value


def _tune(args: argparse.Namespace) -> int:
    from al_lab.campaign.tune_density import TAUS, TRIED, tune
    from al_lab.cli.waiting import said_while

    with said_while("choosing again in every way"):
        found = tune(
            args.run_dir, cycle=args.cycle, images=args.images, taus=args.tau or TAUS, scales=args.scale or TRIED
        )
    sys.stdout.write("\n".join(page(found, args.population)) + "\n")
    return 0


def page(found: Tuning, population: str) -> list[str]:
    """Return the table, and what to write."""
    few, many = min(found.pixels), max(found.pixels)
    pixels = f"{few:,}" if few == many else f"{few:,} to {many:,}"
    lines = [
        f"model of cycle {found.cycle}, {len(found.ids)} images, {pixels} pixels bought in each; a small bound is good",
        "",
        f"{'':<20}{'rank':>6}{'ratio':>8}{'image: bound':>14}{'mean':>8}{'candidates: bound':>19}{'mean':>8}",
        *(_line(trial) for trial in found.trials),
        "",
    ]
    best, k_center = found.best(population), found.trials[0]
    if best is k_center:
        second = min(found.trials[1:], key=lambda trial: float(trial.bound[population].mean()))
        gap, error = second.against(k_center, population)
        return [
            *lines,
            f"no densities lower the bound over {_of(population)}: k-center's is smallest, {_name(second)} is "
            f"{gap:.3g} ± {error:.2g} above it",
            f"k-center on the same candidates: {k_center.overrides}",
        ]
    gap, error = best.against(k_center, population)
    sure = "" if abs(gap) > _CLEAR * error else "; that is within what images differ by, look at more (--images)"
    return [
        *lines,
        f"smallest bound over {_of(population)}: {_name(best)}, {-gap:.3g} ± {error:.2g} below k-center's{sure}",
        f"write: {best.overrides}",
    ]


def _of(population: str) -> str:
    return "the image's pixels" if population == "image" else "the candidates"


def _name(trial: Trial) -> str:
    return "k-center" if trial.scale is None else f"{trial.scale}, tau {trial.tau:g}"


def _line(trial: Trial) -> str:
    rank = f"{trial.rank:.2f}" if math.isfinite(trial.rank) else "-"
    image, candidates = (f"{float(trial.bound[name].mean()):.4f}" for name in ("image", "candidates"))
    means = [f"{trial.mean_distance[name]:.4f}" for name in ("image", "candidates")]
    return f"{_name(trial):<20}{rank:>6}{trial.ratio:>8.2f}{image:>14}{means[0]:>8}{candidates:>19}{means[1]:>8}"
