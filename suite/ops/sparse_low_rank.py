"""sparse_low_rank: y = (A + U V) x: a weight (m x k) that is sparse but for a part of rank r.

A may have any pattern; with a flat block butterfly it is Pixelfly (Dao et al., ICLR 2022). U is m x r, V is
r x k. A line's sparsity is that of A alone; its FLOPs and bytes are those of all three.

Dense kernels answer with the sum, rounded to the case's dtype.
"""

import torch
from torch import Tensor

from suite import rounding
from suite.case import Case
from suite.formats.low_rank import added
from suite.op import Op, Operands, generator, register
from suite.ops import actmm, spmm
from suite.ops.factored import TWICE, scaled_by_fan_in
from suite.sparse import Sparse


def around(case: Case, a: Sparse) -> Operands:
    """A scaled by its fan-in, U and V by theirs, so that nothing swells; x standard normal."""
    (m, k), r, source = a.shape, case["r"], generator(case, 1)
    u = torch.randn(m, r, generator=source) / r**0.5
    v = torch.randn(r, k, generator=source) / k**0.5
    x = torch.randn(k, case["n"], generator=source)
    return scaled_by_fan_in(case, a), case.cast(u), case.cast(v), case.cast(x)


def reference(a: Sparse, u: Tensor, v: Tensor, x: Tensor) -> Tensor:
    """In float64."""
    return spmm.reference(a, x) + u.double() @ (v.double() @ x.double())


def allowed(case: Case, operands: Operands, expected: Tensor) -> Tensor:
    """What a last sum may cost, and twice the largest error of two ordinary programs of the same dtype.

    One rounds what V answers and what A does, the other the sum of the weights.
    """
    a, u, v, x = operands
    thin = (v.double() @ x.double()).to(x.dtype)
    parts = spmm.reference(a, x).to(x.dtype) + (u.double() @ thin.double()).to(x.dtype)
    eager = parts, actmm.product(added(a, u, v), x).to(x.dtype)
    error = max(float((one.double() - expected).abs().max()) for one in eager)
    return rounding.of_sums(expected, case["k"], expected.abs().max(), case.torch_dtype) + TWICE * error


def least(case: Case, a: Sparse) -> int:
    """Numbers that cannot be done without: those of the three, or of their sum where those are no more."""
    m, k = case["m"], case["k"]
    return min(a.nonzeros + case["r"] * (m + k), m * k)


SPARSE_LOW_RANK = register(
    Op(
        name="sparse_low_rank",
        operands=("a", "u", "v", "x"),
        live=(3,),
        sizes=("m", "k", "r", "n"),
        around=around,
        reference=reference,
        allowed=allowed,
        twin=spmm.twin,
        sized=lambda a, u, v, x: (*a.shape, u.shape[1], x.shape[1]),
        nominal=spmm.SPMM.nominal,
        useful=lambda case, operands: 2 * least(case, operands[0]) * case["n"],
        least_values=lambda case, operands: least(case, operands[0]) * case.torch_dtype.itemsize,
        live_bytes=lambda case, _: (case["m"] + case["k"]) * case["n"] * case.torch_dtype.itemsize,
        about="sparse plus low rank",
    )
)
