"""Benchmarks: ours and what one would use instead, side by side in one process.

See `python scripts/bench.py --help`.
"""

import argparse
import json
import logging
import os
import sys
from pathlib import Path

# before NumPy is imported: one core for everyone
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

from al_lab.benchmarks import (  # noqa: E402
    al_ssl,
    average_precision,
    badge,
    density_greedy,
    diversity,
    k_center,
    mgral,
    overheads,
    ripu,
    scoring,
)
from al_lab.benchmarks.feeding import loading, steps  # noqa: E402
from al_lab.benchmarks.measure import Row, header, line, to_json  # noqa: E402

BENCHMARKS = {
    "scoring": scoring.run,
    "overheads": overheads.run,
    "al_ssl": al_ssl.run,
    "ap": average_precision.run,
    "k_center": k_center.run,
    "mgral": mgral.run,
    "density_greedy": density_greedy.run,
    "badge": badge.run,
    "ripu": ripu.run,
    "diversity": diversity.run,
    "loading": loading.run,
    "steps": steps.run,
}


def main() -> int:
    """Run what was asked for; a missed target is printed, not an error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--full", action="store_true", help="run every peer to its end instead of extrapolating its first steps (hours)"
    )
    parser.add_argument(
        "--only", choices=sorted(BENCHMARKS), action="append", help="only this one; may be given more than once"
    )
    parser.add_argument("--json", type=Path, help="write the rows there, too")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    rows: list[Row] = []
    print(header(), flush=True)
    for name in arguments.only or BENCHMARKS:
        for row in BENCHMARKS[name](arguments.full):
            rows.append(row)
            print(line(row), flush=True)
    missed = [row for row in rows if not row.is_met]
    verdict = f"missed: {', '.join(f'{r.task} / {r.peer}' for r in missed)}" if missed else "every target met"
    print(f"\n{len(rows)} comparisons on one core; {verdict}")
    if arguments.json:
        arguments.json.write_text(json.dumps(to_json(rows), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
