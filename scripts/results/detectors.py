"""Eight photographs by heart: what every detector must do, one row of a table each.

python scripts/results/detectors.py detector=faster_rcnn_small detector=tiny dataset=voc_folder dataset.root=photos
"""

import argparse
import logging
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from al_lab.api import compose  # noqa: E402
from al_lab.benchmarks.detectors import check  # noqa: E402


def main() -> int:
    """Print a row for each detector that was named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="+", help="detector=… (several: a row each), dataset=…, trainer.lr=…")
    parser.add_argument("--steps", type=int, default=200, help="of the training (default 200)")
    arguments = parser.parse_intermixed_args()
    logging.basicConfig(level=logging.ERROR)
    names = [o for o in arguments.overrides if o.startswith("detector=")]
    others = [o for o in arguments.overrides if o not in names]
    print(
        "| detector | loss, first and last tenth | AP50 on the eight | resumes | boxes compared | embedding | CPU s |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in names:
        start = time.process_time()
        seen = check(compose([name, *others, "objective=supervised", "strategy=random"]), arguments.steps)
        cells = (
            f"`{name}`",
            f"{seen.first:.3g} → {seen.last:.3g}",
            f"{seen.ap50:.1f}",
            "bit for bit" if seen.resumes else "NO",
            str(seen.flips),
            f"{seen.embedding[0]}, of a box {seen.embedding[1]}",
            f"{time.process_time() - start:.0f}",
        )
        print(f"| {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
