"""The arrays that functions take and return."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]  # positions in arrays
Positions = NDArray[np.int64]  # positions that the kernels of pedigrees and genotypes take
Ints = NDArray[np.signedinteger[Any]]  # of either width
Levels = NDArray[Any]
SparseArray = sp.csc_array
