"""sddmm: dY X^T at the stored positions of a mask alone: the weight gradient of a sparse layer.

The mask is m x k; dY (m x n) and X (k x n) are dense and live. The answer is values[nonzeros] in the order in
which the mask stores them, the sums over n of dY[row] * X[column]. What the mask's own values are is nothing
to it.
"""

import torch
from torch import Tensor

from suite import rounding
from suite.case import Case
from suite.op import Op, Operands, generator, register
from suite.ops.spmm import PANEL, rows_of
from suite.sparse import Sparse

DENSE_REFERENCE = 0.02  # above this density a float64 BLAS over row panels beats picking rows


def around(case: Case, a: Sparse) -> Operands:
    """dY and X standard normal: signed, and never constant."""
    drawn = generator(case, 1)
    dy, x = (case.cast(torch.randn(case[rows], case["n"], generator=drawn)) for rows in "mk")
    return a, dy, x


def reference(mask: Sparse, dy: Tensor, x: Tensor) -> Tensor:
    """In float64: row panels of the whole product where enough of it is stored, else row by row."""
    (m, k), n = mask.shape, dy.shape[1]
    rows, columns = rows_of(mask), mask.columns.long()
    left, right = dy.double(), x.double()
    out = torch.empty(mask.nonzeros, dtype=torch.float64)
    if mask.nonzeros < DENSE_REFERENCE * m * k:
        for part in torch.arange(mask.nonzeros).split(max(1, PANEL // n)):
            out[part] = torch.einsum("ij,ij->i", left[rows[part]], right[columns[part]])
        return out
    step = max(1, PANEL // k)
    for first in range(0, m, step):
        last = min(m, first + step)
        part = slice(int(mask.starts[first]), int(mask.starts[last]))
        out[part] = (left[first:last] @ right.t())[rows[part] - first, columns[part]]
    return out


def allowed(case: Case, operands: Operands, expected: Tensor) -> Tensor:
    """One rounding of the answer, and those of a sum over n; sum|dY||X| is bounded by Cauchy-Schwarz."""
    mask, dy, x = operands
    norms = dy.double().norm(dim=1)[rows_of(mask)] * x.double().norm(dim=1)[mask.columns.long()]
    return rounding.of_sums(expected, dy.shape[1], norms, case.torch_dtype)


def twin(operands: Operands, expected: Tensor, allowed: Tensor) -> tuple[Operands, Tensor, Tensor]:
    """Both with their columns reversed, dY times -1/2 as well: exact in every dtype."""
    mask, dy, x = operands
    return (mask, (dy * -0.5).flip(1), x.flip(1)), expected * -0.5, allowed


def touched_rows(mask: Sparse) -> int:
    """Rows of dY and of X that some stored position asks for."""
    return int((mask.row_lengths > 0).sum()) + len(mask.columns.unique())


SDDMM = register(
    Op(
        name="sddmm",
        operands=("mask", "dy", "x"),
        live=(1, 2),
        sizes=("m", "k", "n"),
        around=around,
        reference=reference,
        allowed=allowed,
        twin=twin,
        sized=lambda mask, dy, x: (*mask.shape, dy.shape[1]),
        nominal=lambda case, _: 2 * case["m"] * case["k"] * case["n"],
        useful=lambda case, operands: 2 * operands[0].nonzeros * case["n"],
        least_values=lambda case, operands: 0,
        live_bytes=lambda case, operands: (
            (touched_rows(operands[0]) * case["n"] + operands[0].nonzeros) * case.torch_dtype.itemsize
        ),
        about="weight gradient",
    )
)
