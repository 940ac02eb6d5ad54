"""actmm: the product of a dense weight with activations of which few count: those that reach their cut.

    actmm      y = w x           x (k x n, live) counts where |x| reaches the cut of its neuron
    actmm_up   y = g * (w x)     g (m x n, live) counts where |g| does: of the other outputs y is 0

In a gated feed-forward layer these are the projection down, which need not read the columns of w of silent
neurons, and the projection up, which need not compute what its gate drops. There are n tokens; w is m x k and
fixed, and so are the cuts, one a neuron, from calibration (`suite.activations`). A cut just above 0 makes it
ReLU. Which neurons count is known only from the live operand, so finding them is part of every call.

The pattern of a case says which activations reach their cut. Its rows are neurons and its columns tokens: a
neuron that no token uses is an empty row, and what is left is the union over the batch, which a call has to
read. A kernel's `values` are the bytes of w that a call reads.

Dense kernels answer for cuts of 0: everything counts.
"""

from dataclasses import replace

import torch
from torch import Tensor

from suite import rounding
from suite.case import Case
from suite.op import Op, Operands, generator, register
from suite.patterns.given import Given
from suite.sparse import Sparse, from_positions

SHORT = 0.99  # of a cut: what an activation that does not reach it has at most
SCALES = 4  # cuts are 1, 1/2, ... of so many kinds
PANEL = 2**23  # numbers of a panel of w in float64: 64 MiB


def activations(case: Case, a: Sparse, salt: int) -> tuple[Tensor, Tensor]:
    """Cuts [rows], and activations [rows, n] that reach them where `a` has a nonzero, and nowhere else.

    Cuts are powers of two, by which all dtypes scale exactly.
    """
    source = generator(case, salt)
    cut = 0.5 ** torch.randint(SCALES, (a.shape[0],), generator=source)
    drawn = (torch.rand(a.shape, generator=source) * 2 - 1) * SHORT
    rows = torch.repeat_interleave(torch.arange(a.shape[0]), a.row_lengths)
    loud = a.values.float()
    drawn[rows, a.columns.long()] = loud + torch.ones(()).copysign(loud)
    return case.cast(cut), case.cast(drawn * cut[:, None])


def weight(case: Case) -> Tensor:
    """w standard normal: signed, and never constant."""
    return case.cast(torch.randn(case["m"], case["k"], generator=generator(case, 2)))


def around(case: Case, a: Sparse) -> Operands:
    """w, cuts and x."""
    return weight(case), *activations(case, a, 1)


def around_up(case: Case, a: Sparse) -> Operands:
    """w, cuts, x standard normal, and g."""
    cut, g = activations(case, a, 1)
    return weight(case), cut, case.cast(torch.randn(case["k"], case["n"], generator=generator(case, 3))), g


def reaching(cut: Tensor, activations: Tensor) -> Tensor:
    """Which activations count."""
    return activations.abs() >= cut[:, None]


def counting(cut: Tensor, activations: Tensor) -> Tensor:
    """Those that count, the others 0."""
    return activations.where(reaching(cut, activations), 0)


def product(w: Tensor, x: Tensor) -> Tensor:
    """In float64, by panels of w."""
    wide = x.double()
    return torch.cat([panel.double() @ wide for panel in w.split(max(1, PANEL // w.shape[1]))])


def magnitudes(w: Tensor, x: Tensor) -> Tensor:
    """|w| |x|, near enough for a tolerance."""
    return (w.float().abs() @ x.float().abs()).double()


def reference(w: Tensor, cut: Tensor, x: Tensor) -> Tensor:
    """In float64."""
    return product(w, counting(cut, x))


def reference_up(w: Tensor, cut: Tensor, x: Tensor, g: Tensor) -> Tensor:
    """In float64."""
    return counting(cut, g).double() * product(w, x)


def tolerance(operands: Operands, expected: Tensor) -> Tensor:
    """One rounding of the answer, and those of a sum of what counts for the token."""
    w, cut, x = operands
    x = counting(cut, x)
    return rounding.of_sums(expected, (x != 0).sum(0), magnitudes(w, x), w.dtype)


def tolerance_up(operands: Operands, expected: Tensor) -> Tensor:
    """A rounding of the product, one of its multiple, and those of the sums."""
    w, cut, x, g = operands
    sums = counting(cut, g).double().abs() * magnitudes(w, x)
    return rounding.of_sums(expected, len(x), sums, w.dtype) + rounding.ROUNDING[w.dtype] * expected.abs()


def twin(operands: Operands, expected: Tensor, allowed: Tensor) -> tuple[Operands, Tensor, Tensor]:
    """x upside down and back to front, negated: beside other cuts, other neurons count, and not as many."""
    w, cut, x = operands
    other = w, cut, -x.flip(0, 1)
    expected = reference(*other)
    return other, expected, tolerance(other, expected)


def twin_up(operands: Operands, expected: Tensor, allowed: Tensor) -> tuple[Operands, Tensor, Tensor]:
    """x and g upside down and back to front, g negated."""
    w, cut, x, g = operands
    other = w, cut, x.flip(0, 1), -g.flip(0, 1)
    expected = reference_up(*other)
    return other, expected, tolerance_up(other, expected)


def whole(case: Case, operands: Operands) -> Operands:
    """Cuts that everything reaches."""
    w, cut, *live = operands
    return w, torch.zeros_like(cut), *live


def sparse(operands: Operands) -> Sparse:
    """The activations that count as compressed rows: neurons by tokens."""
    _, cut, *_, activations = operands
    rows, columns = reaching(cut, activations).nonzero(as_tuple=True)
    starts = torch.searchsorted(rows, torch.arange(len(cut) + 1))
    shape = (activations.shape[0], activations.shape[1])
    return from_positions(starts.numpy(), columns.numpy(), activations[rows, columns], shape, Given())


def useful(case: Case, operands: Operands) -> int:
    """A multiply-add for each weight of a neuron and each token for which it counts."""
    w, cut, *_, activations = operands
    return 2 * (w.numel() // len(cut)) * int(reaching(cut, activations).sum())


def least_values(case: Case, operands: Operands) -> int:
    """The weights of the neurons that count for some token."""
    w, cut, *_, activations = operands
    return w.nbytes // len(cut) * int(reaching(cut, activations).any(1).sum())


ACTMM = register(
    Op(
        name="actmm",
        operands=("w", "cut", "x"),
        live=(2,),
        sizes=("m", "k", "n"),
        shape=lambda case: (case["k"], case["n"]),
        around=around,
        whole=whole,
        sparse=sparse,
        reference=reference,
        allowed=lambda case, operands, expected: tolerance(operands, expected),
        twin=twin,
        nominal=lambda case, _: 2 * case["m"] * case["k"] * case["n"],
        useful=useful,
        least_values=least_values,
        live_bytes=lambda case, _: (case["m"] + case["k"]) * case["n"] * case.torch_dtype.itemsize,
        about="sparse activations, down",
    )
)

ACTMM_UP = register(
    replace(
        ACTMM,
        name="actmm_up",
        operands=("w", "cut", "x", "g"),
        live=(2, 3),
        shape=lambda case: (case["m"], case["n"]),
        around=around_up,
        reference=reference_up,
        allowed=lambda case, operands, expected: tolerance_up(operands, expected),
        twin=twin_up,
        live_bytes=lambda case, _: (2 * case["m"] + case["k"]) * case["n"] * case.torch_dtype.itemsize,
        about="sparse activations, up",
    )
)
