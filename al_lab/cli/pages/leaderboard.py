"""Strategies on data sets over seeds, on one page: who ranks where, who clearly beats whom, what that saves.

  al-lab leaderboard outputs/voc outputs/bccd --out board         of run folders, or folders above them
  al-lab leaderboard results/voc5_320.csv results/voc5_mgral.csv  of files of points (docs/howto/leaderboard.md)

Lines of a data set need the same seeds, budgets and metric; where they differ a sentence says so. --common compares
what all of them have.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from al_lab.cli.tool import wrote
from al_lab.config.options import changes_detector
from al_lab.reporting.pages.leaderboard import write_leaderboard


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page and say where; return the exit status."""
    arguments = _parser().parse_args(argv)
    return wrote(
        lambda: write_leaderboard(
            arguments.results,
            arguments.out,
            metric=arguments.metric,
            column=arguments.column,
            level=arguments.level,
            across=arguments.across,
            common=arguments.common,
            is_changed=changes_detector,
            say=lambda line: print(line, file=sys.stderr) if line else None,
        )
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="al-lab leaderboard", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "results", nargs="+", type=Path, metavar="RESULTS", help="run folder, folder above runs, or file of points"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("leaderboard"), help="folder for page and tables/ (%(default)s)"
    )
    parser.add_argument("--metric", metavar="NAME", help="what decides (the first one that everything has)")
    parser.add_argument(
        "--column",
        choices=("images", "boxes", "pixels", "clicks"),
        help="the count of labels that decides (the budget's)",
    )
    parser.add_argument("--level", type=float, metavar="X", help="labels saved at X, a fraction (random's last point)")
    parser.add_argument(
        "--across", action="append", default=[], metavar="KEY", help="a setting in which runs may differ; repeatable"
    )
    parser.add_argument(
        "--common",
        action="store_true",
        help="compare the seeds and cycles that all lines of a data set have, without lines of one seed",
    )
    return parser
