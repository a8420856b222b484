"""How good forecasts of learning curves are (docs/results/advisor.md).

python scripts/results/advisor.py results/*.csv     every published point, foretold from those before it
python scripts/results/advisor.py --check           how often intervals hold the truth on drawn curves
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from al_lab.benchmarks import advisor  # noqa: E402 - works before the project is installed, too
from al_lab.core.errors import LabError  # noqa: E402


def main() -> int:
    """Print tables in markdown; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, metavar="CSV", help="file of points")
    parser.add_argument("--check", action="store_true", help="draw curves and forecast them")
    parser.add_argument("--curves", type=int, default=advisor.CURVES, help="drawn a row (%(default)s)")
    arguments = parser.parse_args()
    if not arguments.files and not arguments.check:
        parser.error("name files of points, or --check")
    try:
        if arguments.files:
            print("\n".join(advisor.published_table(arguments.files)))
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if arguments.check:
        print("\n".join(advisor.drawn_table(arguments.curves)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
