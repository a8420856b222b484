"""``al-lab select`` from a checkout, before the project is installed, too: which images to label next."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from al_lab.cli.select import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
