"""What this machine offers and what is missing: ``python scripts/doctor.py``. Exits with 1 if something necessary is missing."""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from al_lab.cli.doctor import diagnose, has_problem  # noqa: E402 - works before the project is installed, too


def main() -> int:
    """Print one line a fact; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--outputs-dir", type=Path, help="where runs go (default: outputs)")
    parser.add_argument("--data-dir", type=Path, help="where datasets are (default: $AL_LAB_DATA or data)")
    arguments = parser.parse_args()
    facts = diagnose(ROOT, arguments.outputs_dir, arguments.data_dir)
    print(*facts, sep="\n")
    problems = sum(fact.severity == "problem" for fact in facts)
    print(f"\n{problems} problem(s): see above" if problems else "\nEverything necessary is here. Try: python run.py")
    return int(has_problem(facts))


if __name__ == "__main__":
    sys.exit(main())
