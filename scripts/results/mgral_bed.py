"""MGRAL link by link on frozen features of voc5_320: where its signal dies, and what each remedy is worth.

python scripts/results/mgral_bed.py --smoke       in minutes, does it run
python scripts/results/mgral_bed.py --seeds 8 --csv results/mgral_bed/mgral_bed.csv     all of it; cut, it goes on
python scripts/results/mgral_bed.py --show results/mgral_bed/mgral_bed.csv      mean and 95 % interval, by link
"""

import argparse
import os
import sys
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch  # noqa: E402

from al_lab.benchmarks.mgral_bed.pools import POOLS  # noqa: E402
from al_lab.benchmarks.mgral_bed.run import SMOKE, Results, read_table, run  # noqa: E402
from al_lab.benchmarks.mgral_bed.tell import tell  # noqa: E402
from al_lab.benchmarks.mgral_bed.unit import Size  # noqa: E402
from al_lab.core.errors import LabError  # noqa: E402


def main() -> int:
    """Run or show the table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pools", nargs="+", choices=POOLS, default=list(POOLS))
    parser.add_argument("--seeds", type=int, default=1, help="how many, from 0 (%(default)s)")
    parser.add_argument("--smoke", action="store_true", help="small sizes, numbers that mean nothing")
    parser.add_argument(
        "--data", type=Path, help="holds voc5_320 and weights (AL_LAB_SHARED_DATA, else ../shared/data)"
    )
    parser.add_argument("--out", type=Path, default=Path("outputs/mgral_bed"), help="%(default)s")
    parser.add_argument("--csv", type=Path, help="written anew after each pool and seed")
    parser.add_argument("--show", type=Path, metavar="CSV", help="print such a file in markdown, run nothing")
    arguments = parser.parse_args()
    if arguments.show:
        print("\n".join(tell(read_table(arguments.show))))
        return 0
    data = arguments.data or Path(os.environ.get("AL_LAB_SHARED_DATA", "../shared/data"))
    if not (data / "voc5_320").is_dir():
        parser.error(f"expected the folder voc5_320 in {data}, got none; name the folder that holds it with --data")
    torch.set_num_threads(1)
    size = SMOKE if arguments.smoke else Size()
    results = Results(arguments.out, size)
    try:
        for line in run(arguments.pools, range(arguments.seeds), data, results, size, arguments.csv):
            print(line, flush=True)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
