"""Block rows in torch's Triton kernel: a block of the answer a program, products on tensor cores.

Its parameters are tuned first, beginning with those torch has for the shape: one after the other, as long as
a step is quicker. That takes seconds and is setup; torch's own tuner takes minutes. So it runs at the full
extent alone. Blocks are the pattern's own, or the largest power of two up to 128 that divides them; ragged
sizes are padded in each call. No float32, which the kernel sums in float64 off the tensor cores. Bad at:
patterns without blocks; few columns, which are padded to 16; launches cost the host much.
"""

import warnings
from math import gcd

import torch

from suite.cuda.terms import no_triton
from suite.formats.bsr import block_of, unfit, whole
from suite.formats.padded import padded
from suite.kernel import Prepared, Refused, kernel
from suite.kernels.spmm.spmm_bsr_cusparse import blocks_of

LEAST, LARGEST = 16, 128
TILE = (LEAST, LEAST)
WIDTHS = (16, 32, 64, 128)  # of a block of the answer
TRIED = {"num_warps": (1, 2, 4, 8), "num_stages": (1, 2, 3, 4), "GROUP_SIZE_ROW": (1, 2, 4, 8)}
SHORT = {"warmup": 5, "rep": 20}  # milliseconds of a trial
TUNED = {}  # what was found in this process, by shape, blocks and dtype


def refuse(case, device):
    return [*unfit(case, tile=TILE), *no_triton()]


def columns_of(n, height):
    """So many columns that blocks of the answer are square; or that there is one, a power of two wide."""
    return whole(n, height) if n > height else max(LEAST, 1 << (n - 1).bit_length())


def tuned(first, wide_n, timed, failures):
    """The quickest parameters met, and whether they are other than the first; `timed` tries some out."""
    splits = tuple(wide_n // width for width in WIDTHS if wide_n % width == 0)
    tried = {"SPLIT_N": splits, **TRIED}
    best, least = first, timed(first)
    for name, choices in tried.items():
        for choice in choices:
            other = {**best, name: choice}
            if other != best and (took := timed(other)) < least:
                best, least = other, took
    if least == float("inf"):
        raise Refused(f"torch's Triton kernel runs with none of the parameters tried: {failures[-1]}")
    return best, best != first


@kernel(
    op="spmm",
    on="cuda",
    dtypes=("bfloat16", "float16"),
    isa=("sm_80",),
    refuse=refuse,
    extents=("full",),
)
def spmm_bsr_triton_torch(a, b):
    """torch's Triton kernel for block rows, tuned."""
    from torch.sparse._triton_ops import bsr_dense_addmm, bsr_dense_addmm_meta

    m, n = a.shape[0], b.shape[1]
    height, width = (gcd(side, LARGEST) for side in block_of(a.pattern, tile=TILE))
    made = blocks_of(a, height, width, b.device)
    rows, columns = made.padded
    wide_n = columns_of(n, height)
    wider, wide = padded(b, columns, wide_n)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the layout is in beta, and that parameters are not tuned yet
        held = torch.sparse_bsr_tensor(
            made.starts, made.columns, made.values, size=made.padded, check_invariants=False
        )
        sparsity = round(1 - made.values.numel() / (rows * columns), 2)  # as torch's table goes by it
        first = bsr_dense_addmm_meta(
            rows, columns, wide_n, height, width, 0, 1, sparsity=sparsity, dtype=b.dtype
        )
    out = b.new_empty(rows, wide_n)

    def multiply(b, meta):
        bsr_dense_addmm(out, held, wider(b), beta=0, alpha=1, out=out, meta=meta)

    failures = []

    def timed(meta):
        from triton.testing import do_bench

        try:
            return do_bench(lambda: multiply(b, meta), **SHORT)
        except Exception as failed:  # more than the chip has of something, in one of Triton's own errors
            failures.append(f"{type(failed).__name__}: {failed}")
            return float("inf")

    key = (made.padded, wide_n, height, width, len(made.values), b.dtype)
    if key not in TUNED:
        TUNED[key] = tuned(first, wide_n, timed, failures)
    meta, other = TUNED[key]

    def run(b):
        multiply(b, meta)
        return out[:m, :n]

    return Prepared(
        run,
        executed=2 * made.values.numel() * wide_n,
        values=made.value_bytes,
        metadata=made.metadata_bytes,
        holds=(made, wide, out),
        note={
            "algorithm": f"{height}x{width}",
            "parameters": "tuned" if other else "torch's own, none was quicker",
            **meta,
        },
    )
