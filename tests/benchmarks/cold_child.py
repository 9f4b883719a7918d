"""Import and first small fit in a bare process: ``python -m tests.benchmarks.cold_child FORMULA CSV``."""

import time

start = time.perf_counter()

import mixedgen as mg  # noqa: E402

imported = time.perf_counter()

import json  # noqa: E402
import sys  # noqa: E402

import pandas as pd  # noqa: E402

frame = pd.read_csv(sys.argv[2])
read = time.perf_counter()
mg.lmm(sys.argv[1], frame)
done = time.perf_counter()
print(json.dumps({"import": imported - start, "fit": done - read, "numba": "numba" in sys.modules}))
