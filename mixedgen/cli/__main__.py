"""``python -m mixedgen.cli``."""

from __future__ import annotations

import sys

from mixedgen.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
