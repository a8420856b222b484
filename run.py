"""``al-lab`` from a checkout: run an active-learning campaign, or go on with one."""

import sys

from al_lab.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
