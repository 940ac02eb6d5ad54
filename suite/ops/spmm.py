"""spmm: C = A B with A sparse (m x k) and B dense (k x n, live).

Of 8-bit numbers each tensor has a scale, which is the dtype's: C = scale^2 A B, in bfloat16. Whole numbers
are added up in int32, which is exact. Weights of fewer bits have scales in their values (suite.quantized).
"""

import numpy as np
import torch
from torch import Tensor

from suite import rounding
from suite.case import SCALES, Case, largest_of
from suite.op import Op, Operands, generator, register
from suite.quantized import as_stored
from suite.sparse import Sparse, from_positions

DENSE_REFERENCE = 0.005  # above this density a float64 BLAS over row panels beats compressed rows
PANEL = 2**25  # elements of a row panel of the reference: 256 MiB
MOST = torch.iinfo(torch.int32).max // int(largest_of(torch.int8)) ** 2  # products that int32 holds


def around(case: Case, a: Sparse) -> Operands:
    """B standard normal: signed, and never constant."""
    return a, case.cast(torch.randn(case["k"], case["n"], generator=generator(case, 1)))


def reference(a: Sparse, b: Tensor) -> Tensor:
    """In float64: row panels with zeros in place where A is dense enough for that, else compressed rows."""
    m, k = a.shape
    wide = scaled(b)
    if a.nonzeros < DENSE_REFERENCE * m * k:
        return torch.from_numpy(a.scipy(float) @ wide.numpy())
    out = torch.empty(m, b.shape[1], dtype=torch.float64)
    step = max(1, PANEL // k)
    for first in range(0, m, step):
        last = min(m, first + step)
        torch.mm(a.rows_dense(first, last, torch.float64), wide, out=out[first:last])
    return out


def scaled(b: Tensor) -> Tensor:
    """B in float64, with the scales of both operands in it: powers of two, so they round nothing."""
    return b.double() * SCALES.get(b.dtype, 1.0) ** 2


def allowed(case: Case, operands: Operands, expected: Tensor) -> Tensor:
    """One rounding of the answer, and those of a sum as long as the row."""
    a, b = operands
    return rounding.of_product(expected, rows_of(a), a.values, scaled(b), case.answer_dtype)


def rules(case: Case) -> list[str]:
    """Whole numbers whose sums might not fit."""
    if case.torch_dtype.is_floating_point or case["k"] <= MOST:
        return []
    return [f"int32 holds sums of {MOST} products of {case.dtype} for sure; this has k={case['k']}"]


def objections(operands: Operands) -> list[str]:
    """A whole number without a negative, which the check with other live operands needs."""
    a, b = operands
    if b.dtype.is_floating_point:
        return []
    least = torch.iinfo(b.dtype).min
    named = (("a", a.values), ("b", b))
    return [f"{name} holds {least}, which has no negative" for name, one in named if (one == least).any()]


def rows_of(a: Sparse) -> Tensor:
    """The row of each nonzero."""
    return torch.repeat_interleave(torch.arange(a.shape[0]), a.row_lengths)


def twin(operands: Operands, expected: Tensor, allowed: Tensor) -> tuple[Operands, Tensor, Tensor]:
    """B with its columns reversed, times -1/2: exact in every dtype, and no column of the answer stays.

    Times -1 in 8 bits, whose smallest numbers have no half.
    """
    *fixed, b = operands
    by = -1.0 if b.dtype in SCALES else -0.5
    other = (b.float() * by).flip(1).to(b.dtype)
    return (*fixed, other), (expected * by).flip(1), allowed.flip(1)


def filled(case: Case, operands: Operands) -> Operands:
    """A with standard normal numbers where its zeros were."""
    a, b = operands
    m, k = a.shape
    values = torch.randn(m, k, generator=generator(case, 2))
    starts, columns = np.arange(m + 1) * k, np.tile(np.arange(k, dtype=np.int32), m)
    made = as_stored(case, from_positions(starts, columns, values.flatten(), a.shape, a.pattern))
    made.values.view(m, k)[rows_of(a), a.columns.long()] = a.values
    return made, b


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
        filled=filled,
        scaled=True,
        rules=rules,
        objections=objections,
        sized=lambda a, b: (*a.shape, b.shape[1]),
        nominal=lambda case, _: 2 * case["m"] * case["k"] * case["n"],
        useful=lambda case, operands: 2 * operands[0].nonzeros * case["n"],
        least_values=lambda case, operands: operands[0].nonzeros * case.weight_bits // 8,
        live_bytes=lambda case, operands: (
            touched_rows(operands[0]) * case["n"] * case.torch_dtype.itemsize
            + case["m"] * case["n"] * case.answer_dtype.itemsize
        ),
    )
)
