"""Windows of what a GPU reaches: reading its memories, and multiplying in each type.

Dense and 2:4 products are ceilings of their own ("bfloat16", "bfloat16 2:4"), and so are float32 on its own
units and rounded to TF32. Operands are random: a product of zeros draws less power and runs faster.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from suite.case import DTYPES, FLOAT8, INT8, stored
from suite.ceilings import Window
from suite.cuda import nvrtc

PROBES = Path(__file__).with_name("probes.cu")
SIZES = ((40, 8192), (12, 4096), (0, 2048))  # GiB of the device from which on a product is so large
SPARSE = " 2:4"
BLOCKS, THREADS = 8, 256  # per multiprocessor, per block
L2_ROUNDS = 64


def windows(spec: str, l2: int, isa: frozenset[str], memory: int, processors: int) -> Iterator[Window]:
    """Everything that can be measured here."""
    source = torch.ones(min(2**30, memory // 16) // 4, device=spec)
    target = torch.empty_like(source)
    yield "bandwidth", "memory", rate(lambda: target.copy_(source), 2 * source.nbytes)
    yield "bandwidth", "memory", rate(source.sum, source.nbytes)
    if not nvrtc.missing():
        near = torch.ones(l2 // 2 // 4, device=spec)
        yield "bandwidth", "L2", reading(near, L2_ROUNDS, isa, processors)
        yield "bandwidth", "memory", reading(source, 1, isa, processors)
    size = next(size for least, size in SIZES if memory >= least * 2**30)
    for dtype, product in products(size, spec, isa):
        stored = 0.5 if dtype.endswith(SPARSE) else 1.0  # what is not stored is not multiplied
        yield "flops", dtype, rate(product, stored * 2.0 * size**3)


def products(size: int, spec: str, isa: frozenset[str]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """(what, one product of that size) for each dtype the chip multiplies in."""
    left, right = torch.randn(2, size, size, device=spec).unbind()
    yield "float32", lambda: full(left, right)
    if "sm_80" in isa:
        yield "tfloat32", lambda: rounded(left, right)
        for dtype in (torch.bfloat16, torch.float16):
            yield from halves(left.to(dtype), right.to(dtype))
        yield from eighths(INT8, torch.ops.aten._int_mm, left, right)
    if "sm_89" in isa:
        one = torch.ones((), device=left.device)
        how = {"scale_a": one, "scale_b": one, "out_dtype": torch.bfloat16, "use_fast_accum": True}
        yield from eighths(FLOAT8, partial(torch.ops.aten._scaled_mm, **how), left, right)


def halves(left: Tensor, right: Tensor) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Of 16 bits: dense, and 2:4 where the library is there."""
    name = str(left.dtype).removeprefix("torch.")
    yield name, lambda: torch.mm(left, right)
    if torch.backends.cusparselt.is_available():
        held = torch.ops.aten._cslt_compress(two_of_four(left))
        algorithm = torch.ops.aten._cslt_sparse_mm_search(held, right)
        yield name + SPARSE, lambda: torch.ops.aten._cslt_sparse_mm(held, right, alg_id=algorithm)


def eighths(
    name: str, dense: Callable[..., Any], left: Tensor, right: Tensor
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Of 8 bits: dense, and 2:4 into bfloat16 where the library has that on this chip."""
    a, b, wide = stored(left, DTYPES[name]), stored(right, DTYPES[name]).t(), torch.bfloat16
    yield name, lambda: dense(a, b)
    if torch.backends.cusparselt.is_available():
        try:
            held = torch.ops.aten._cslt_compress(stored(two_of_four(left), DTYPES[name]))
            algorithm = torch.ops.aten._cslt_sparse_mm_search(held, b, out_dtype=wide)
        except RuntimeError:  # it is younger than that of 16 bits, and not on every chip
            return
        yield (
            name + SPARSE,
            lambda: torch.ops.aten._cslt_sparse_mm(held, b, out_dtype=wide, alg_id=algorithm),
        )


def two_of_four(dense: Tensor) -> Tensor:
    """With two of every four along a row zero, whichever."""
    kept = torch.rand_like(dense, dtype=torch.float32).unflatten(-1, (-1, 4)).argsort(-1) < 2
    return dense * kept.flatten(-2)


def full(left: Tensor, right: Tensor) -> Tensor:
    """In float32 throughout."""
    torch.backends.cuda.matmul.allow_tf32 = False
    return torch.mm(left, right)


def rounded(left: Tensor, right: Tensor) -> Tensor:
    """Operands rounded to TF32."""
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        return torch.mm(left, right)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False


def reading(source: Tensor, rounds: int, isa: frozenset[str], processors: int) -> Callable[[], float]:
    """A window of reading all of it, over and over."""
    import cupy  # pyright: ignore[reportMissingImports]  optional, and for GPUs

    newest = max((each for each in isa if each[3:].isdigit()), key=lambda each: int(each[3:]))
    kernel = nvrtc.load(PROBES, newest).get_function("read_over")
    out = torch.zeros(1, device=source.device)

    def launch() -> None:
        with cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream):
            kernel(
                (BLOCKS * processors,),
                (THREADS,),
                (source.data_ptr(), source.nbytes // 16, rounds, out.data_ptr()),
            )

    return rate(launch, rounds * source.nbytes)


def rate(call: Callable[[], Any], amount: float) -> Callable[[], float]:
    """The rate of a call that does a fixed amount; the first one warms up."""
    call()

    def window() -> float:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        end.synchronize()
        return amount / (start.elapsed_time(end) * 1e-3)

    return window
