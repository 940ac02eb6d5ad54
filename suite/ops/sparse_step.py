"""sparse_step: what one sparse layer computes in a training step, forward and back.

    y = W x        dx = W^T dy        dvalues = dy x^T at the stored positions of W

W is m x k; its pattern is fixed, and its values change with every step, as x (k x n) and dy (m x n) do. The
pattern's values are ones, so that its dense form is the mask. In training dy exists only after y has been
through the layers above: a kernel that shares a pass between y and the gradients measures nothing real.
"""

import torch
from torch import Tensor

from suite.case import Case
from suite.op import Op, Operands, register
from suite.ops import sddmm, spmm, spmm_t
from suite.sparse import Sparse, with_values

Parts = tuple[Tensor, ...]


def around(case: Case, a: Sparse) -> Operands:
    """The values of `a` as live ones, x and dy standard normal."""
    _, dy, x = sddmm.around(case, a)
    return with_values(a, torch.ones_like(a.values)), a.values, x, dy


def objections(operands: Operands) -> list[str]:
    """A pattern is ones."""
    return [] if (operands[0].values == 1).all() else ["the pattern has values other than ones"]


def reference(pattern: Sparse, values: Tensor, x: Tensor, dy: Tensor) -> Parts:
    """In float64."""
    w = with_values(pattern, values)
    return spmm.reference(w, x), spmm_t.reference(w, dy), sddmm.reference(w, dy, x)


def allowed(case: Case, operands: Operands, expected: Parts) -> Parts:
    """That of each product."""
    pattern, values, x, dy = operands
    w = with_values(pattern, values)
    y, dx, dvalues = expected
    return (
        spmm.allowed(case, (w, x), y),
        spmm_t.allowed(case, (w, dy), dx),
        sddmm.allowed(case, (w, dy, x), dvalues),
    )


def twin(operands: Operands, expected: Parts, allowed: Parts) -> tuple[Operands, Parts, Parts]:
    """x and dy with their columns reversed, the values and dy times -1/2: exact in every dtype."""
    pattern, values, x, dy = operands
    y, dx, dvalues = expected
    live = values * -0.5, x.flip(1), (dy * -0.5).flip(1)
    answer = (y * -0.5).flip(1), (dx * 0.25).flip(1), dvalues * -0.5
    return (pattern, *live), answer, (allowed[0].flip(1), allowed[1].flip(1), allowed[2])


def live_bytes(case: Case, operands: Operands) -> int:
    """The values and their gradients; x, y, dx, dy."""
    columns = 2 * (case["m"] + case["k"]) * case["n"]
    return (2 * operands[0].nonzeros + columns) * case.torch_dtype.itemsize


SPARSE_STEP = register(
    Op(
        name="sparse_step",
        operands=("pattern", "values", "x", "dy"),
        live=(1, 2, 3),
        sizes=("m", "k", "n"),
        around=around,
        reference=reference,
        allowed=allowed,
        twin=twin,
        sized=lambda pattern, values, x, dy: (*pattern.shape, x.shape[1]),
        objections=objections,
        nominal=lambda case, _: 3 * 2 * case["m"] * case["k"] * case["n"],
        useful=lambda case, operands: 3 * 2 * operands[0].nonzeros * case["n"],
        least_values=lambda case, operands: 0,
        live_bytes=live_bytes,
        answers=("y", "dx", "dvalues"),
        about="training step of a layer",
    )
)
