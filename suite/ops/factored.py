"""factored: y = L (R x): a weight (m x k) that is kept as the product of two sparse factors.

R is k x k and L is m x k. They stand one upon the other, R above, in a (k + m) x k matrix, so that any
pattern may say where their nonzeros are. Factors with more nonzeros than their product has numbers are no
case. A line's sparsity is what is saved: 1 - nonzeros / (m k).

Dense kernels answer with the product multiplied out beforehand, rounded to the case's dtype.
"""

import torch
from torch import Tensor

from suite import rounding
from suite.case import Case
from suite.formats.factors import factors, product
from suite.op import Op, Operands, generator, register
from suite.ops import actmm, spmm
from suite.ops.spmm import rows_of
from suite.sparse import Sparse, with_values

TWICE = 2  # the error of an ordinary program that is no less right


def rules(case: Case) -> list[str]:
    """Factors must save something."""
    m, k = case["m"], case["k"]
    if case.pattern.given or case.pattern.faults(k + m, k):
        return []  # said elsewhere
    if (count := case.pattern.count(k + m, k)) <= m * k:
        return []
    return [f"factors of {case.pattern} have {count} nonzeros; their product has {m * k} numbers"]


def around(case: Case, a: Sparse) -> Operands:
    """Factors scaled by their fan-in, so that nothing swells; x standard normal."""
    x = torch.randn(case["k"], case["n"], generator=generator(case, 1))
    return scaled_by_fan_in(case, a), case.cast(x)


def scaled_by_fan_in(case: Case, a: Sparse) -> Sparse:
    """The same positions; values, which are standard normal, of variance one over the inputs of their row."""
    values = (a.values.double() / a.row_lengths[rows_of(a)].sqrt()).to(torch.float32)
    return with_values(a, case.cast(values))


def reference(a: Sparse, x: Tensor) -> Tensor:
    """In float64."""
    upper, lower = factors(a)
    return spmm.reference(lower, spmm.reference(upper, x))


def allowed(case: Case, operands: Operands, expected: Tensor) -> Tensor:
    """What a last sum may cost, and twice the largest error of two ordinary programs of the same dtype.

    One rounds what R answers, the other the product of the factors.
    """
    a, x = operands
    upper, lower = factors(a)
    between = spmm.reference(upper, x).to(x.dtype)
    eager = spmm.reference(lower, between), actmm.product(product(a), x)
    error = max(float((one.to(x.dtype).double() - expected).abs().max()) for one in eager)
    largest = expected.abs().max()
    return rounding.of_sums(expected, case["k"], largest, case.torch_dtype) + TWICE * error


def least(case: Case, a: Sparse) -> int:
    """Numbers that cannot be done without: the factors', or their product's where those are no more."""
    return min(a.nonzeros, case["m"] * case["k"])


def live_bytes(case: Case, operands: Operands) -> int:
    """Rows of x that R multiplies, and the answer."""
    upper, _ = factors(operands[0])
    return (spmm.touched_rows(upper) + case["m"]) * case["n"] * case.torch_dtype.itemsize


FACTORED = register(
    Op(
        name="factored",
        operands=("a", "x"),
        live=(1,),
        sizes=("m", "k", "n"),
        shape=lambda case: (case["k"] + case["m"], case["k"]),
        room=lambda case: case["m"] * case["k"],
        rules=rules,
        around=around,
        reference=reference,
        allowed=allowed,
        twin=spmm.twin,
        sized=lambda a, x: (a.shape[0] - a.shape[1], a.shape[1], x.shape[1]),
        nominal=spmm.SPMM.nominal,
        useful=lambda case, operands: 2 * least(case, operands[0]) * case["n"],
        least_values=lambda case, operands: least(case, operands[0]) * case.torch_dtype.itemsize,
        live_bytes=live_bytes,
        about="product of two sparse factors",
    )
)
