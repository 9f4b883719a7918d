"""BLAS and LAPACK from within numba kernels, and the decorator of all kernels.

scipy exports the addresses of its BLAS and LAPACK as capsules; each is registered with LLVM as a symbol of our own
name, so that compiled kernels can be cached: the name is resolved again in each process.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, TypeVar, cast

import llvmlite.binding
import numba
from numba.core import cgutils, types
from numba.core.caching import IndexDataCacheFile
from numba.extending import intrinsic
from scipy.linalg import cython_blas, cython_lapack

from mixedgen.arrays import Array

F = TypeVar("F", bound=Callable[..., Any])

_LOWER, _UPPER, _RIGHT, _LEFT, PLAIN, TRANSPOSED = (ord(c) for c in "LURLNT")

# reassociation lets LLVM vectorise sums; infinities and NaN keep their meaning, pivots are tested for them
_FASTMATH = {"reassoc", "contract", "nsz"}


def kernel(function: F) -> F:
    """Compile a function with numba on its first call, and keep the code on disk."""
    compiled = numba.njit(cache=True, nogil=True, fastmath=_FASTMATH, error_model="numpy")(function)
    stored = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if stored is not None:
        stored.__class__ = _MendedFile
    return cast(F, compiled)


class _MendedFile(IndexDataCacheFile):  # type: ignore[misc]
    """Stored code of a kernel; what cannot be read, cut short by a full disk say, is compiled and stored again."""

    def _load_index(self) -> dict[Any, Any]:
        """Names of the files of code; none from an index that is damaged."""
        try:
            return cast(dict[Any, Any], super()._load_index())
        except Exception:  # noqa: BLE001  pickle raises whatever the bytes happen to say
            return {}

    def _load_data(self, name: str) -> Any:
        """Code in one file; an OSError, after which numba compiles, for one that is damaged."""
        try:
            return super()._load_data(name)
        except Exception as err:  # noqa: BLE001
            raise OSError(f"the stored code {name!r} cannot be read") from err


def _external(module: Any, name: str, n_arguments: int) -> Any:
    """Register a Fortran routine and return what numba calls; every argument is an address."""
    capsule = module.__pyx_capi__[name]
    get_name = ctypes.pythonapi.PyCapsule_GetName
    get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    symbol = f"mixedgen_{name}"
    llvmlite.binding.add_symbol(symbol, get_pointer(capsule, get_name(capsule)))
    return types.ExternalFunction(symbol, types.void(*(types.intp,) * n_arguments))


_dgemm = _external(cython_blas, "dgemm", 13)
_dsyrk = _external(cython_blas, "dsyrk", 10)
_dtrsm = _external(cython_blas, "dtrsm", 11)
_dsymm = _external(cython_blas, "dsymm", 12)
_dpotrf = _external(cython_lapack, "dpotrf", 5)
_dpotri = _external(cython_lapack, "dpotri", 5)


@intrinsic  # type: ignore[untyped-decorator]
def _at(typing_context: Any, value: Any) -> Any:
    """Address of a copy of a scalar on the stack of the calling function."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = cgutils.alloca_once_value(builder, arguments[0])
        return builder.ptrtoint(pointer, context.get_value_type(types.intp))

    return types.intp(value), generate


@kernel
def gemm(
    transa: int, transb: int, m: int, n: int, k: int, alpha: float,
    a: Array, a0: int, lda: int, b: Array, b0: int, ldb: int, beta: float, c: Array, c0: int, ldc: int,
) -> None:  # fmt: skip
    """Set ``C = alpha op(A) op(B) + beta C``; arrays are flat, `x0` is where each matrix starts."""
    _dgemm(
        _at(numba.uint8(transa)), _at(numba.uint8(transb)), _at(numba.int32(m)), _at(numba.int32(n)),
        _at(numba.int32(k)), _at(alpha), a.ctypes.data + 8 * a0, _at(numba.int32(lda)),
        b.ctypes.data + 8 * b0, _at(numba.int32(ldb)), _at(beta), c.ctypes.data + 8 * c0, _at(numba.int32(ldc)),
    )  # fmt: skip


@kernel
def syrk(n: int, k: int, alpha: float, a: Array, a0: int, lda: int, beta: float, c: Array, c0: int, ldc: int) -> None:
    """Set the lower triangle of ``C = alpha A A' + beta C``, A of shape (n, k)."""
    _dsyrk(
        _at(numba.uint8(_LOWER)), _at(numba.uint8(PLAIN)), _at(numba.int32(n)), _at(numba.int32(k)), _at(alpha),
        a.ctypes.data + 8 * a0, _at(numba.int32(lda)), _at(beta), c.ctypes.data + 8 * c0, _at(numba.int32(ldc)),
    )  # fmt: skip


@kernel
def trsm(trans: int, m: int, n: int, a: Array, a0: int, lda: int, b: Array, b0: int, ldb: int) -> None:
    """Set ``B = B op(A)^-1``, A lower triangular of order n, B of shape (m, n)."""
    _dtrsm(
        _at(numba.uint8(_RIGHT)), _at(numba.uint8(_LOWER)), _at(numba.uint8(trans)), _at(numba.uint8(PLAIN)),
        _at(numba.int32(m)), _at(numba.int32(n)), _at(1.0), a.ctypes.data + 8 * a0, _at(numba.int32(lda)),
        b.ctypes.data + 8 * b0, _at(numba.int32(ldb)),
    )  # fmt: skip


@kernel
def symm(
    m: int, n: int, alpha: float, a: Array, a0: int, lda: int, b: Array, b0: int, ldb: int,
    beta: float, c: Array, c0: int, ldc: int,
) -> None:  # fmt: skip
    """Set ``C = alpha A B + beta C``, A symmetric of order m in its lower triangle, B of shape (m, n)."""
    _dsymm(
        _at(numba.uint8(_LEFT)), _at(numba.uint8(_LOWER)), _at(numba.int32(m)), _at(numba.int32(n)), _at(alpha),
        a.ctypes.data + 8 * a0, _at(numba.int32(lda)), b.ctypes.data + 8 * b0, _at(numba.int32(ldb)), _at(beta),
        c.ctypes.data + 8 * c0, _at(numba.int32(ldc)),
    )  # fmt: skip


@kernel
def potrf(n: int, a: Array, a0: int, lda: int, info: Any) -> int:
    """Cholesky factor of a lower triangle in place; 0, or the number of the first pivot that is not positive."""
    _dpotrf(
        _at(numba.uint8(_LOWER)), _at(numba.int32(n)), a.ctypes.data + 8 * a0, _at(numba.int32(lda)), info.ctypes.data
    )
    return int(info[0])


@kernel
def potri(n: int, a: Array, a0: int, lda: int, info: Any) -> int:
    """Inverse of the matrix from its lower Cholesky factor, in place."""
    _dpotri(
        _at(numba.uint8(_LOWER)), _at(numba.int32(n)), a.ctypes.data + 8 * a0, _at(numba.int32(lda)), info.ctypes.data
    )
    return int(info[0])
