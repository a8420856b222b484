"""Pages from run folders.

  python scripts/report.py outputs/shapes/entropy/default/seed0     renews that run's report.html
  python scripts/report.py outputs/shapes --out report-shapes       compares every run below: strategies, seeds, random, full data

RUN is a run folder or a folder above several. With --out, figures (PNG, PDF) and tables (CSV, LaTeX) are written beside the page.
"""

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from al_lab.core.errors import LabError  # noqa: E402 - works before the project is installed, too
from al_lab.reporting.compare import write_comparison  # noqa: E402
from al_lab.reporting.find import find_runs  # noqa: E402
from al_lab.reporting.html import write_report  # noqa: E402


def main() -> int:
    """Write the page and say where; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder, or a folder above runs")
    parser.add_argument("--out", type=Path, help="folder for page, figures/ and tables/ (several runs: report/ above them)")
    parser.add_argument("--embedding", choices=("pca", "tsne"), default="pca", help="how the embedding is flattened")
    parser.add_argument("--level", type=float, action="append", default=[], metavar="X", help="labels needed to reach X, a fraction; repeatable")
    arguments = parser.parse_args()
    try:
        runs = find_runs(arguments.runs)
        if len(runs) == 1:
            path = write_report(runs[0].path, exports_dir=arguments.out, method=arguments.embedding, levels=arguments.level)
            path = arguments.out / path.name if arguments.out else path
        else:
            out = arguments.out or Path(os.path.commonpath([run.path for run in runs])) / "report"
            path = write_comparison([run.path for run in runs], out, method=arguments.embedding, levels=arguments.level)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
