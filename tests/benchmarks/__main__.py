"""``python -m tests.benchmarks``: race, cold start, or profile."""

from tests.benchmarks.run import main

raise SystemExit(main())
