"""spmm_t: dX = A^T dY with A sparse (m x k) and dY dense (m x n, live): the input gradient of a layer A."""

from dataclasses import replace

import torch
from torch import Tensor

from suite import rounding
from suite.case import Case
from suite.op import Operands, generator, register
from suite.ops import spmm
from suite.sparse import Sparse, from_positions


def around(case: Case, a: Sparse) -> Operands:
    """dY standard normal: signed, and never constant."""
    return a, case.cast(torch.randn(case["m"], case["n"], generator=generator(case, 1)))


def reference(a: Sparse, dy: Tensor) -> Tensor:
    """In float64, as that of spmm."""
    return spmm.reference(transposed(a), dy)


def transposed(a: Sparse) -> Sparse:
    """A^T in float64."""
    (m, k), turned = a.shape, a.scipy(float).T.tocsr()
    return from_positions(turned.indptr, turned.indices, torch.from_numpy(turned.data), (k, m), a.pattern)


def allowed(case: Case, operands: Operands, expected: Tensor) -> Tensor:
    """One rounding of the answer, and those of a sum as long as the column."""
    a, dy = operands
    return rounding.of_product(expected, a.columns.long(), a.values, dy, case.torch_dtype)


def touched_rows(a: Sparse) -> int:
    """Rows of dY that some nonzero multiplies."""
    return int((a.row_lengths > 0).sum())


SPMM_T = register(
    replace(
        spmm.SPMM,
        name="spmm_t",
        operands=("a", "dy"),
        around=around,
        reference=reference,
        allowed=allowed,
        scaled=False,
        live_bytes=lambda case, operands: (
            (touched_rows(operands[0]) + case["k"]) * case["n"] * case.torch_dtype.itemsize
        ),
        about="input gradient",
    )
)
