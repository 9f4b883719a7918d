"""The functions that a formula may call."""

# formulaic has no type information.

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from mixedgen.formula.basis import BASES

# What formulaic brings beside numpy's functions; `hashed` and `lag` are its own too.
_TRANSFORMS = (
    *("C", "I", "Q", "bs", "cc", "center", "cr", "cs", "hashed", "lag", "poly", "scale", "standardize"),
    *("Diff", "Helmert", "Poly", "Sum", "Treatment"),
)
CONTRAST_CODINGS = ("helmert", "poly", "sum", "treatment", "SAS", "diff", "custom")


def _exp10(x: Any) -> Any:
    """Ten to the power of x."""
    return np.power(10.0, x)


_UFUNCS = {
    name: f
    for name, f in vars(np).items()
    if isinstance(f, np.ufunc) and f.signature is None and f.nout == 1 and not name.startswith("_")
}
NUMPY: Mapping[str, int] = MappingProxyType(
    {**{name: f.nin for name, f in _UFUNCS.items()}, "where": 3, "clip": 3, "round": 2}
)
"""Numpy's elementwise functions and the most arguments each takes: a further one would be written to."""

_WORDS_OF_R: dict[str, tuple[Callable[..., Any], int]] = {
    "ifelse": (np.where, 3),
    "pmin": (np.minimum, 2),
    "pmax": (np.maximum, 2),
    "ceiling": (np.ceil, 1),
    "exp10": (_exp10, 1),
}
ARGUMENTS: Mapping[str, int] = MappingProxyType({**NUMPY, **{name: n for name, (_, n) in _WORDS_OF_R.items()}})
"""Elementwise functions by their plain names, and the most arguments each takes."""

CONTEXT: Mapping[str, Any] = MappingProxyType(
    {
        **{name: getattr(np, name) for name in NUMPY},
        **{name: f for name, (f, _) in _WORDS_OF_R.items()},
        **BASES,
    }
)
"""What formulaic is given beside its own transforms."""

KNOWN = frozenset({*_TRANSFORMS, *CONTEXT})
RESERVED = frozenset({*KNOWN, "np", "contr", "cbind", "members", "mates", "mm", "offset", "True", "False", "None"})

COUNTERPARTS: Mapping[str, str] = MappingProxyType(
    {
        "ns": 'write cr(x, df=3, constraints="center"), a natural spline',
        "s": "write cr(x, df=3) for a spline of given degrees of freedom",
        "cut": "make the column before, with pandas.cut",
        "ordered": "write C(x, contr.poly)",
        "as.ordered": "write C(x, contr.poly)",
        "relevel": 'write C(x, contr.treatment("level"))',
        "interaction": "write a:b",
        "c": "write a list, [1, 2]",
        "as.numeric": "make the column of numbers before",
        "as.integer": "make the column of numbers before",
        "as.character": "write C(x)",
        "is.na": "rows with missing values are left out: see na_action=",
        "log1m": "write log1p(-x)",
        "relu": "write maximum(x, 0)",
    }
)
"""What to write for functions of other packages that have no equal here."""
