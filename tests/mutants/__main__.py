"""Do the tests bite? Small mistakes are put into the code one by one, and the tests of the same room must notice.

``python -m tests.mutants`` goes on where it was stopped; docs/mutants.md says how to read the result.
"""

import argparse
import os
import sys
from pathlib import Path

from tests.mutants.campaign import Sample, judge, judge_survivors, show
from tests.mutants.catalog import ROOT


def main() -> int:
    """Judge the sample, print the table; the exit status is 0 whatever survives."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--sample", type=int, default=400, help="how many mutants (default: 400)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (default: 0)")
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "mutants", help="where results are kept")
    parser.add_argument(
        "--survivors",
        action="store_true",
        help="only judge survivors again, by the tests that are new or changed since",
    )
    parser.add_argument("--show", action="store_true", help="only print what is known")
    arguments = parser.parse_args()
    os.nice(10)
    os.chdir(ROOT)
    sample = Sample.draw(arguments.sample, arguments.seed)
    if not arguments.show:
        (judge_survivors if arguments.survivors else judge)(sample, arguments.out)
    sys.stdout.write(show(sample, arguments.out) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
