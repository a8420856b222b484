"""Verdicts from files of points, and how often verdicts are wrong.

python scripts/verdicts.py results/*.csv             who is better, as the reports say it (docs/results_verdicts.md)
python scripts/verdicts.py --column boxes results/voc5_320.csv
python scripts/verdicts.py --figures docs/figures results/*.csv      their learning curves, too
python scripts/verdicts.py --check                   false alarms and power on simulated pages (docs/statistics.md)
"""

import argparse
import math
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from al_lab.benchmarks import verdicts as simulated  # noqa: E402 - works before the project is installed, too
from al_lab.core.errors import LabError  # noqa: E402
from al_lab.reporting.figures.points import curves_of_points  # noqa: E402
from al_lab.reporting.judge.judge import Judge, Pair  # noqa: E402
from al_lab.reporting.judge.points import read_points  # noqa: E402


def main() -> int:
    """Print tables in markdown; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, metavar="CSV", help="file of points")
    parser.add_argument(
        "--column", choices=("images", "boxes", "pixels", "clicks"), help="what was spent (the first there is)"
    )
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="draw each file's learning curve into it (PNG)")
    parser.add_argument("--pairs", action="store_true", help="all other pairs, too, corrected among themselves")
    parser.add_argument("--check", action="store_true", help="simulate pages of ten lines on which nothing differs")
    parser.add_argument("--pages", type=int, default=simulated.PAGES, help="simulated pages a row (%(default)s)")
    arguments = parser.parse_args()
    if not arguments.files and not arguments.check:
        parser.error("name files of points, or --check")
    try:
        for path in arguments.files:
            points = read_points(path, arguments.column)
            print("\n".join(_table(path, points.judge, arguments.pairs)), end="\n\n")
            if arguments.figures:
                for name, figure in curves_of_points(points, path.stem).items():
                    figure.savefig(arguments.figures / f"{name}.png", dpi=200, facecolor="white")
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if arguments.check:
        print("\n".join([*simulated.false_alarms(arguments.pages), "", *simulated.power(arguments.pages)]))
    return 0


def _table(path: Path, judge: Judge, with_pairs: bool) -> list[str]:
    lines = [f"### {path.name}: {judge.name}", "", judge.error_note]
    seen = judge.resolution
    if seen is not None and math.isfinite(seen.visible()):
        lines.append(
            f"With {seen.seeds} seeds {100 * seen.visible():.1f} points would be called clear eight times in ten."
        )
    head = "| line | against | difference, points | interval | p | seeds | verdict |"
    for title, pairs in (("Planned", judge.planned), ("Explored", judge.explored if with_pairs else ())):
        rows = [_row(p) for p in pairs if p.contrast.seeds]
        lines += ["", f"{title}:", "", head, "|---|---|---|---|---|---|---|", *rows] if rows else []
    return lines


def _row(pair: Pair) -> str:
    c = pair.contrast
    half = f"± {100 * c.half:.1f}" if math.isfinite(c.half) else ""
    p = f"{c.p_holm:.3f}" if math.isfinite(c.p_holm) else ""
    return f"| {pair.ours} | {pair.theirs} | {100 * c.difference:+.1f} | {half} | {p} | {len(c.seeds)} | {c.verdict} |"


if __name__ == "__main__":
    sys.exit(main())
