"""spmm: C = A B with A sparse (m x k) and B dense (k x n, live)."""

import torch
from torch import Tensor

from suite import rounding
from suite.case import Case
from suite.op import Op, Operands, generator, register
from suite.sparse import Sparse

DENSE_REFERENCE = 0.005  # above this density a float64 BLAS over row panels beats compressed rows
PANEL = 2**25  # elements of a row panel of the reference: 256 MiB


def around(case: Case, a: Sparse) -> Operands:
    """B standard normal: signed, and never constant."""
    return a, case.cast(torch.randn(case["k"], case["n"], generator=generator(case, 1)))


def reference(a: Sparse, b: Tensor) -> Tensor:
    """In float64: row panels with zeros in place where A is dense enough for that, else compressed rows."""
    m, k = a.shape
    wide = b.double()
    if a.nonzeros < DENSE_REFERENCE * m * k:
        return torch.from_numpy(a.scipy(float) @ wide.numpy())
    out = torch.empty(m, b.shape[1], dtype=torch.float64)
    step = max(1, PANEL // k)
    for first in range(0, m, step):
        last = min(m, first + step)
        torch.mm(a.rows_dense(first, last, torch.float64), wide, out=out[first:last])
    return out


def allowed(case: Case, operands: Operands, expected: Tensor) -> Tensor:
    """One rounding of the answer, and those of a sum as long as the row."""
    a, b = operands
    return rounding.of_product(expected, rows_of(a), a.values, b, case.torch_dtype)


def rows_of(a: Sparse) -> Tensor:
    """The row of each nonzero."""
    return torch.repeat_interleave(torch.arange(a.shape[0]), a.row_lengths)


def twin(operands: Operands, expected: Tensor, allowed: Tensor) -> tuple[Operands, Tensor, Tensor]:
    """B with its columns reversed, times -1/2: exact in every dtype, and no column of the answer stays."""
    *fixed, b = operands
    return (*fixed, (b * -0.5).flip(1)), (expected * -0.5).flip(1), allowed.flip(1)


def touched_rows(a: Sparse) -> int:
    """Rows of B that some nonzero multiplies."""
    return int(torch.zeros(a.shape[1], dtype=torch.bool).index_fill_(0, a.columns.long(), True).sum())


SPMM = register(
    Op(
        name="spmm",
        operands=("a", "b"),
        live=(1,),
        sizes=("m", "k", "n"),
        around=around,
        reference=reference,
        allowed=allowed,
        twin=twin,
        sized=lambda a, b: (*a.shape, b.shape[1]),
        nominal=lambda case, _: 2 * case["m"] * case["k"] * case["n"],
        useful=lambda case, operands: 2 * operands[0].nonzeros * case["n"],
        least_values=lambda case, operands: operands[0].nonzeros * case.torch_dtype.itemsize,
        live_bytes=lambda case, operands: (
            (touched_rows(operands[0]) + case["m"]) * case["n"] * case.torch_dtype.itemsize
        ),
    )
)
