"""cuSPARSE: its product of a sparse matrix and a dense one, with all chosen that the library would choose.

By ctypes, on the library that torch has brought along. CuPy's bindings will not be recorded into a graph,
and know neither blocks nor the preprocessing. Signatures and numbers are those of cusparse.h and
library_types.h; indices are int32, sums float32.
"""

import weakref
from collections.abc import Callable
from ctypes import byref, c_float, c_int, c_int64, c_size_t, c_void_p
from functools import cache
from typing import Any

import torch
from torch import Tensor

from suite.cuda import libraries
from suite.formats.bell import Bell
from suite.formats.bsr import Bsr
from suite.kernel import Refused
from suite.sparse import Sparse

NAMES = ("libcusparse.so.12", "cusparse64_12.dll")  # of CUDA 12 and 13 alike
ERROR = "cusparseGetErrorString"

CSR_ALG1, CSR_ALG2, CSR_ALG3, BLOCKED_ELL_ALG1, BSR_ALG1 = 4, 6, 12, 13, 14
COLUMNS, ROWS = 1, 2  # memory order of a dense matrix
INT32, FROM_ZERO, AS_IT_IS, FLOAT32 = 2, 0, 0, 0
TYPES = {torch.float32: FLOAT32, torch.float16: 2, torch.bfloat16: 14}
CANNOT = (4, 10)  # "architecture mismatch" and "not supported": terms of the library, not mistakes of ours

TERMS = (c_void_p, c_int, c_int, *5 * (c_void_p,), c_int, c_int)
SIGNATURES = {
    "cusparseCreate": (c_void_p,),
    "cusparseSetStream": (c_void_p, c_void_p),
    "cusparseCreateCsr": (c_void_p, *3 * (c_int64,), *3 * (c_void_p,), *4 * (c_int,)),
    "cusparseCreateBsr": (c_void_p, *5 * (c_int64,), *3 * (c_void_p,), *5 * (c_int,)),
    "cusparseCreateBlockedEll": (c_void_p, *4 * (c_int64,), *2 * (c_void_p,), *3 * (c_int,)),
    "cusparseCreateDnMat": (c_void_p, *3 * (c_int64,), c_void_p, c_int, c_int),
    "cusparseDnMatSetValues": (c_void_p, c_void_p),
    "cusparseDestroySpMat": (c_void_p,),
    "cusparseDestroyDnMat": (c_void_p,),
    "cusparseSpMM_bufferSize": (*TERMS, c_void_p),
    "cusparseSpMM_preprocess": (*TERMS, c_void_p),
    "cusparseSpMM": (*TERMS, c_void_p),
}

Multiply = Callable[[Tensor], None]


def missing() -> list[str]:
    """Why there is no cuSPARSE here; empty if there is. Meant for a kernel's `refuse`."""
    try:
        library()
    except OSError as failed:
        return [f"needs cuSPARSE 12, which a torch for CUDA 12 or 13 brings along: {failed}"]
    return []


@cache
def library() -> Any:
    """The library, its functions with their types."""
    return libraries.load(NAMES, SIGNATURES, ERROR)


def ask(function: str, *arguments: Any) -> None:
    """Call it; what the library does not support is a refusal, what else goes wrong a failure."""
    status = getattr(library(), function)(*arguments)
    libraries.answered("cuSPARSE", library(), ERROR, CANNOT, function, status)


@cache
def handle(device: int) -> c_void_p:
    """The library's own state on a GPU, which is the current one."""
    made = c_void_p()
    ask("cusparseCreate", byref(made))
    return made


def csr(a: Sparse) -> c_void_p:
    """Compressed rows as the library knows them; the arrays stay the caller's."""
    if a.starts.dtype != torch.int32:
        raise Refused(f"{a.nonzeros} nonzeros; indices are 32 bits wide")
    pointers = (a.starts.data_ptr(), a.columns.data_ptr(), a.values.data_ptr())
    numbers = (INT32, INT32, FROM_ZERO, TYPES[a.dtype])
    return described("SpMat", "cusparseCreateCsr", *a.shape, a.nonzeros, *pointers, *numbers)


def bsr(held: Bsr) -> c_void_p:
    """Block rows; the library takes blocks that are square and in row order."""
    blocks, height, width = held.values.shape
    (m, k), starts = held.padded, held.starts.data_ptr()
    sizes = (m // height, k // width, blocks, height, width)
    pointers = (starts, held.columns.data_ptr(), held.values.data_ptr())
    numbers = (INT32, INT32, FROM_ZERO, TYPES[held.values.dtype], ROWS)
    return described("SpMat", "cusparseCreateBsr", *sizes, *pointers, *numbers)


def blocked_ell(held: Bell) -> c_void_p:
    """Rows of equally many blocks."""
    sizes = (*held.padded, held.size, held.values.shape[1])
    pointers = (held.columns.data_ptr(), held.values.data_ptr())
    numbers = (INT32, FROM_ZERO, TYPES[held.values.dtype])
    return described("SpMat", "cusparseCreateBlockedEll", *sizes, *pointers, *numbers)


def dense(matrix: Tensor, order: int) -> c_void_p:
    """A dense matrix without gaps. Of a single row or column torch's strides tell no order, so it is said."""
    rows, columns = matrix.shape
    leading = columns if order == ROWS else rows
    numbers = (TYPES[matrix.dtype], order)
    return described("DnMat", "cusparseCreateDnMat", rows, columns, leading, matrix.data_ptr(), *numbers)


def described(kind: str, create: str, *arguments: Any) -> c_void_p:
    """A descriptor, which the library is told to forget when nobody has it any more."""
    made = c_void_p()
    ask(create, byref(made), *arguments)
    forget = getattr(library(), f"cusparseDestroy{kind}")
    weakref.finalize(made, forget, c_void_p(made.value)).atexit = False
    return made


def product(
    left: c_void_p, b: Tensor, out: Tensor, order: int, algorithm: int, preprocess: bool = False
) -> tuple[Multiply, Tensor]:
    """What computes out = left b for any b of this shape, and the workspace that is held for it.

    b and out are in the same order. `preprocess` looks at the sparse matrix beforehand, which helps
    CSR_ALG1 and CSR_ALG3 alone.
    """
    state, right, answer = handle(torch.cuda.current_device()), dense(b, order), dense(out, order)
    one, zero, size = c_float(1), c_float(0), c_size_t()
    terms = (state, AS_IT_IS, AS_IT_IS, byref(one), left, right, byref(zero), answer, FLOAT32, algorithm)
    ask("cusparseSetStream", state, torch.cuda.current_stream().cuda_stream)
    ask("cusparseSpMM_bufferSize", *terms, byref(size))
    workspace = torch.empty(max(1, size.value), dtype=torch.uint8, device=b.device)
    if preprocess:
        ask("cusparseSpMM_preprocess", *terms, workspace.data_ptr())

    def multiply(b: Tensor) -> None:
        ask("cusparseSetStream", state, torch.cuda.current_stream().cuda_stream)
        ask("cusparseDnMatSetValues", right, b.data_ptr())
        ask("cusparseSpMM", *terms, workspace.data_ptr())

    return multiply, workspace
