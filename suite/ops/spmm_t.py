"""spmm_t: dX = A^T dY with A sparse (m x k) and dY dense (m x n, live): the input gradient of a layer A."""

import torch
from torch import Tensor

from suite import rounding
from suite.case import Case
from suite.op import Op, Operands, generator, register
from suite.ops.spmm import DENSE_REFERENCE, PANEL, twin
from suite.sparse import Sparse


def around(case: Case, a: Sparse) -> Operands:
    """dY standard normal: signed, and never constant."""
    return a, torch.randn(case["m"], case["n"], generator=generator(case, 1)).to(case.torch_dtype)


def reference(a: Sparse, dy: Tensor) -> Tensor:
    """In float64: row panels with zeros in place where A is dense enough for that, else compressed rows."""
    m, k = a.shape
    wide = dy.double()
    if a.nonzeros < DENSE_REFERENCE * m * k:
        return torch.from_numpy(a.scipy(float).T @ wide.numpy())
    out = torch.zeros(k, dy.shape[1], dtype=torch.float64)
    step = max(1, PANEL // k)
    for first in range(0, m, step):
        last = min(m, first + step)
        out.addmm_(a.rows_dense(first, last, torch.float64).t(), wide[first:last])
    return out


def allowed(case: Case, operands: Operands, expected: Tensor) -> Tensor:
    """One rounding of the answer, and those of a sum as long as the column."""
    a, dy = operands
    return rounding.of_product(expected, a.columns.long(), a.values, dy, case.torch_dtype)


def touched_rows(a: Sparse) -> int:
    """Rows of dY that some nonzero multiplies."""
    return int((a.row_lengths > 0).sum())


SPMM_T = register(
    Op(
        name="spmm_t",
        operands=("a", "dy"),
        live=(1,),
        sizes=("m", "k", "n"),
        around=around,
        reference=reference,
        allowed=allowed,
        twin=twin,
        nominal=lambda case, _: 2 * case["m"] * case["k"] * case["n"],
        useful=lambda case, operands: 2 * operands[0].nonzeros * case["n"],
        least_values=lambda case, operands: operands[0].nonzeros * case.torch_dtype.itemsize,
        live_bytes=lambda case, operands: (
            (touched_rows(operands[0]) + case["k"]) * case["n"] * case.torch_dtype.itemsize
        ),
        about="input gradient",
    )
)
