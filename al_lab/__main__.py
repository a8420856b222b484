"""``python -m al_lab`` is ``al-lab``, for an environment whose scripts are not on the path."""

import sys

from al_lab.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
