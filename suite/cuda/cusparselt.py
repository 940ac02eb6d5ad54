"""cuSPARSELt: its product of a 2:4 matrix and a dense one, into an answer and a workspace that are there.

By ctypes, on the library that torch has brought along: CuPy has none, and torch allocates answer, workspace
and descriptors in every call. Signatures and numbers are those of cusparseLt.h from 0.6 on; sums are in
float32, of whole numbers in int32. Every matrix runs along k, which 8-bit products insist on: the 2:4 one row
by row, b token by token.
"""

from collections.abc import Callable
from ctypes import byref, c_float, c_int, c_int64, c_size_t, c_uint32, c_void_p, sizeof
from functools import cache
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from suite.cuda import libraries

NAMES = ("libcusparseLt.so.0",)
ERROR = "cusparseLtGetErrorString"

COLUMNS, ROWS = 1, 2  # memory order
AS_IT_IS, TRANSPOSED = 0, 1
HALF, DEFAULT = 0, 0  # sparsity, algorithm
INT32_SUMS, FLOAT32_SUMS = 0, 2  # computing
ALIGNED = 16  # bytes; torch's own memory is far better aligned
TYPES = {torch.float16: 2, torch.int8: 3, torch.bfloat16: 14, torch.float8_e4m3fn: 28}
CANNOT = (4, 8, 10, 11)  # of its terms: architecture, type of matrix, not supported, too few resources
CONFIG, SPLIT_K, SPLIT_K_MODE = 0, 3, 4  # attributes of an algorithm
OPAQUE = 2**14  # bytes for each of its structures: early versions have some of eleven thousand

MATMUL = (*9 * (c_void_p,), c_void_p, c_int)
SIGNATURES = {
    "cusparseLtInit": (c_void_p,),
    "cusparseLtGetVersion": (c_void_p, c_void_p),
    "cusparseLtStructuredDescriptorInit": (*2 * (c_void_p,), *3 * (c_int64,), c_uint32, *3 * (c_int,)),
    "cusparseLtDenseDescriptorInit": (*2 * (c_void_p,), *3 * (c_int64,), c_uint32, *2 * (c_int,)),
    "cusparseLtMatmulDescriptorInit": (*2 * (c_void_p,), *2 * (c_int,), *4 * (c_void_p,), c_int),
    "cusparseLtMatmulAlgSelectionInit": (*3 * (c_void_p,), c_int),
    "cusparseLtMatmulAlgGetAttribute": (*2 * (c_void_p,), c_int, c_void_p, c_size_t),
    "cusparseLtMatmulPlanInit": 4 * (c_void_p,),
    "cusparseLtMatmulGetWorkspace": 3 * (c_void_p,),
    "cusparseLtSpMMACompressedSize2": 4 * (c_void_p,),
    "cusparseLtSpMMACompress2": (*2 * (c_void_p,), *2 * (c_int,), *4 * (c_void_p,)),
    "cusparseLtMatmul": MATMUL,
    "cusparseLtMatmulSearch": MATMUL,
}


def missing() -> list[str]:
    """Why there is no cuSPARSELt here; empty if there is. Meant for a kernel's `refuse`."""
    try:
        library()
    except OSError as failed:
        return [f"needs cuSPARSELt, which a torch for CUDA on Linux brings along: {failed}"]
    return []


@cache
def library() -> Any:
    """The library, its functions with their types."""
    return libraries.load(NAMES, SIGNATURES, ERROR)


def ask(function: str, *arguments: Any) -> None:
    """Call it; what the library does not support is a refusal, what else goes wrong a failure."""
    given = (one.data_ptr() if isinstance(one, Tensor) else one for one in arguments)
    status = getattr(library(), function)(*given)
    libraries.answered("cuSPARSELt", library(), ERROR, CANNOT, function, status)


def described(create: str, *arguments: Any) -> Tensor:
    """A structure that only the library reads. Nobody has it forgotten: plans are kept, and they read it."""
    opaque = torch.zeros(OPAQUE, dtype=torch.uint8)
    ask(create, *arguments[:1], opaque, *arguments[1:])
    return opaque


@cache
def handle(device: int) -> Tensor:
    """The library's own state on a GPU, which is the current one."""
    return described("cusparseLtInit")


def version() -> int:
    """A thousand for each major version, a hundred for each minor one."""
    found = c_int()
    ask("cusparseLtGetVersion", handle(torch.cuda.current_device()), byref(found))
    return found.value


@cache
def plan(m: int, n: int, k: int, dtype: torch.dtype, answer: torch.dtype, device: int) -> "Plan":
    """How products of these sizes and types are done on a GPU: for each copy of a kernel in the same way."""
    return Plan(m, n, k, dtype, answer, device)


class Plan:
    """Descriptors of a product, and of how the library does it: as it found best, after `search`.

    algorithm: what it chose, by name; empty before. search_seconds: what choosing took.
    """

    def __init__(self, m: int, n: int, k: int, dtype: torch.dtype, answer: torch.dtype, device: int) -> None:
        self.algorithm: dict[str, int] = {}
        self.search_seconds = 0.0
        self.state = state = handle(device)
        numbers, wide = (ALIGNED, TYPES[dtype]), (ALIGNED, TYPES[answer])
        self.left = described("cusparseLtStructuredDescriptorInit", state, m, k, k, *numbers, ROWS, HALF)
        self.right = described("cusparseLtDenseDescriptorInit", state, n, k, k, *numbers, ROWS)
        self.answer = described("cusparseLtDenseDescriptorInit", state, m, n, m, *wide, COLUMNS)
        matrices = (self.left, self.right, self.answer, self.answer)
        sums = FLOAT32_SUMS if dtype.is_floating_point else INT32_SUMS
        terms = (AS_IT_IS, TRANSPOSED, *matrices, sums)
        self.matmul = described("cusparseLtMatmulDescriptorInit", state, *terms)
        self.selection = described("cusparseLtMatmulAlgSelectionInit", state, self.matmul, DEFAULT)
        self.plan = described("cusparseLtMatmulPlanInit", state, self.matmul, self.selection)

    def compressed(self, weight: Tensor) -> Tensor:
        """A 2:4 matrix, m x k, as the library wants it: values and positions in one buffer of bytes."""
        size, spare = c_size_t(), c_size_t()
        ask("cusparseLtSpMMACompressedSize2", self.state, self.left, byref(size), byref(spare))
        packed, buffer = (
            torch.empty(max(1, one.value), dtype=torch.uint8, device=weight.device) for one in (size, spare)
        )
        ask("cusparseLtSpMMACompress2", self.state, self.left, 1, AS_IT_IS, weight, packed, buffer, stream())
        return packed

    def product(
        self, packed: Tensor, b: Tensor, out: Tensor, scale: float = 1.0
    ) -> tuple[Callable[[Tensor], None], Tensor]:
        """What computes out = scale packed b for any b of this shape, and the workspace that is held for it.

        b is k x n and out m x n, both token by token. The first time, algorithms are tried on them.
        """
        if not self.algorithm:
            self.search(packed, b, out)
        one, zero, streams = c_float(scale), c_float(0), (c_void_p * 1)()
        workspace = self.workspace(out)

        def multiply(b: Tensor) -> None:
            streams[0] = stream()
            matrices = (byref(one), packed, b, byref(zero), out, out)
            ask("cusparseLtMatmul", self.state, self.plan, *matrices, workspace, streams, 1)

        return multiply, workspace

    def search(self, packed: Tensor, b: Tensor, out: Tensor) -> None:
        """Let the library try its algorithms; it goes on with the quickest."""
        start = perf_counter()
        one, zero, streams = c_float(1), c_float(0), (c_void_p * 1)(stream())
        matrices = (byref(one), packed, b, byref(zero), out, out)
        ask("cusparseLtMatmulSearch", self.state, self.plan, *matrices, self.workspace(out), streams, 1)
        self.search_seconds = perf_counter() - start
        for name, attribute in (("algorithm", CONFIG), ("split_k", SPLIT_K), ("mode", SPLIT_K_MODE)):
            found = c_int()
            size = sizeof(found)
            ask("cusparseLtMatmulAlgGetAttribute", self.state, self.selection, attribute, byref(found), size)
            self.algorithm[name] = found.value

    def workspace(self, out: Tensor) -> Tensor:
        """As large as the plan wants it now."""
        size = c_size_t()
        ask("cusparseLtMatmulGetWorkspace", self.state, self.plan, byref(size))
        return torch.empty(max(1, size.value), dtype=torch.uint8, device=out.device)


def stream() -> int:
    """torch's current one."""
    return torch.cuda.current_stream().cuda_stream
