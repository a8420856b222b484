"""Pages from run folders.

  al-lab report outputs/shapes/entropy/default/seed0     renews that run's report.html
  al-lab report outputs/shapes --out report-shapes       compares every run below: strategies, seeds, random, full data

RUN is a run folder or a folder above several. With --out, figures (PNG, PDF) and tables (CSV, LaTeX) are written beside
the page.

Runs may differ in strategy, its options, objective, the heads or dropout that a strategy brings into the detector, and
seed; each combination but the seed is a line of its own, named by what sets it apart, and the Settings list the
differences. Of several random lines the supervised one (then the one
with most seeds) is the baseline. Any other difference is refused, unless --across names it:

  al-lab report outputs/voc --across trainer.batch_size
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from al_lab.cli.tool import wrote
from al_lab.config.options import changes_detector
from al_lab.reporting.pages.compare import write_comparison
from al_lab.reporting.pages.run import write_report
from al_lab.reporting.read.find import find_runs


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page and say where; return the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    return wrote(lambda: _page(arguments, parser))


def _page(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> Path:
    runs = find_runs(arguments.runs, arguments.images)
    if arguments.across and len(runs) == 1:
        parser.error("--across says in what several runs may differ, and this is one")
    if len(runs) == 1:
        path = write_report(
            runs[0].path,
            exports_dir=arguments.out,
            method=arguments.embedding,
            levels=arguments.level,
            image_folders=arguments.images,
            metric=arguments.metric,
            is_changed=changes_detector,
            say=_say,
        )
        return arguments.out / path.name if arguments.out else path
    return write_comparison(
        [run.path for run in runs],
        arguments.out or Path(os.path.commonpath([run.path for run in runs])) / "report",
        method=arguments.embedding,
        levels=arguments.level,
        across=arguments.across,
        image_folders=arguments.images,
        metric=arguments.metric,
        is_changed=changes_detector,
        say=_say,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="al-lab report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder, or a folder above runs")
    parser.add_argument(
        "--out", type=Path, help="folder for page, figures/ and tables/ (several runs: report/ above them)"
    )
    parser.add_argument("--embedding", choices=("pca", "tsne"), default="pca", help="how the embedding is flattened")
    parser.add_argument(
        "--level",
        type=float,
        action="append",
        default=[],
        metavar="X",
        help="labels needed to reach X, a fraction; repeatable",
    )
    parser.add_argument("--metric", metavar="NAME", help="what the page is about (the dataset's first one)")
    parser.add_argument(
        "--across",
        action="append",
        default=[],
        metavar="KEY",
        help="a setting (or a group of them) in which the runs may differ, e.g. trainer.batch_size; repeatable",
    )
    parser.add_argument(
        "--images",
        action="append",
        default=[],
        type=Path,
        metavar="FOLDER",
        help="show the images of this folder (the dataset's), of your own runs; without it a page shows none but those "
        "in the run folders, because a run folder can name any file of this computer; repeatable",
    )
    return parser


def _say(line: str) -> None:
    """Put a line beside the page's path, where a script that takes the path doesn't see it."""
    if line:
        print(line, file=sys.stderr)
