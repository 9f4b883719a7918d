"""``python -m mixedgen.cli``."""

import sys

from mixedgen.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
