"""``al-lab leaderboard`` from a checkout, before the project is installed, too: strategies ranked on one page."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from al_lab.cli.pages.leaderboard import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
