"""spgemm: C = A B, all of them sparse; A (m x k) and B (k x p) are both live.

Which B, the sizes say:

    p = k = m     A itself, in memory of its own: paths of two steps, as graphs and multigrid have them
    p = m         A transposed: which rows of A meet
    otherwise     unstructured, and as sparse as A: pruned weights and activations that are mostly zero

C has a stored position wherever some product falls, be it that all of them sum to zero.
"""

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from suite import rounding
from suite.case import Case
from suite.op import Op, Operands, generator, register
from suite.patterns.unstructured import Unstructured
from suite.sparse import Sparse, from_positions

SMALLEST = 2.0**-500  # its square is no zero in float64, and beside a float32 it is nothing

Parts = tuple[Tensor, Tensor, Tensor]
"""starts, columns and values of C, columns ascending within each row."""

Csr = Any  # scipy.sparse.csr_array, of which type checkers know little


def around(case: Case, a: Sparse) -> Operands:
    """B by the rule above."""
    m, k, p = case["m"], case["k"], case["p"]
    if m == k == p:
        return a, a.clone()
    if m == p:
        return a, transposed(a)
    pattern = Unstructured(a.sparsity)
    drawn = generator(case, 1)
    starts, columns = pattern.positions(k, p, int(torch.randint(2**31, (), generator=drawn)))
    values = torch.randn(len(columns), generator=drawn).to(a.dtype)
    return a, from_positions(starts, columns, values, (k, p), pattern)


def transposed(a: Sparse) -> Sparse:
    """A with rows and columns exchanged."""
    m, k = a.shape
    order = np.argsort(a.columns.numpy(), kind="stable")
    rows = np.repeat(np.arange(m), a.row_lengths.numpy())[order]
    starts = np.searchsorted(a.columns.numpy()[order], np.arange(k + 1))
    return from_positions(starts, rows, a.values[torch.from_numpy(order)], (k, m), a.pattern)


_MAGNITUDES: WeakKeyDictionary[Sparse, Csr] = WeakKeyDictionary()


def magnitudes(a: Sparse, b: Sparse) -> Csr:
    """|A| |B|, which says where C is stored and how large its sums may grow. Kept as long as A is."""
    if a not in _MAGNITUDES:
        left, right = a.scipy(float), b.scipy(float)
        for one in (left, right):
            one.data = np.abs(one.data) + SMALLEST  # SciPy leaves out what sums to zero
        _MAGNITUDES[a] = product(left, right)
    return _MAGNITUDES[a]


def product(left: Csr, right: Csr) -> Csr:
    """By columns, for the way back to rows puts them in order."""
    return (left.tocsc() @ right.tocsc()).tocsr()


def reference(a: Sparse, b: Sparse) -> Parts:
    """In float64."""
    where = magnitudes(a, b)
    starts, columns, values = parts(completed(product(a.scipy(float), b.scipy(float)), where))
    return starts.long(), columns, values


def parts(c: Csr) -> Parts:
    return torch.from_numpy(c.indptr), torch.from_numpy(c.indices), torch.from_numpy(c.data)


def completed(made: Csr, where: Csr) -> Csr:
    """`made` with zeros where it has nothing and `where` has; as it is, if it has more than `where`."""
    if made.nnz >= where.nnz:
        return made
    wanted, given = numbered(where), numbered(made)
    at = np.searchsorted(wanted, given)
    if (wanted[at.clip(max=len(wanted) - 1)] != given).any():
        return made
    values = np.zeros(where.nnz, made.dtype)
    values[at] = made.data
    return scipy.sparse.csr_array((values, where.indices, where.indptr), shape=where.shape)


def numbered(c: Csr) -> np.ndarray:
    """Its stored positions, numbered row by row."""
    rows = np.repeat(np.arange(c.shape[0], dtype=np.int64), np.diff(c.indptr))
    return rows * c.shape[1] + c.indices


def allowed(case: Case, operands: Operands, expected: Parts) -> Parts:
    """None in where C is stored; in its values one rounding, and those of a sum of so many products.

    sum|a||b| is taken as it is: rows and columns of unlike lengths meet here, for which bounds are loose.
    How many products there are is bounded by the shorter of the row of A and the column of B.
    """
    a, b = operands
    starts, columns, values = expected
    rows = a.row_lengths.double().repeat_interleave(starts.diff())
    counts = b.columns.long().bincount(minlength=b.shape[1]).double()[columns.long()].minimum(rows)
    terms = torch.from_numpy(magnitudes(a, b).data)
    exactly = torch.zeros((), dtype=torch.float64)
    return exactly, exactly, rounding.of_sums(values, counts, terms, case.torch_dtype)


def twin(operands: Operands, expected: Parts, allowed: Parts) -> tuple[Operands, Parts, Parts]:
    """A upside down and back to front, B upside down: C upside down, so that where it is stored changes too.

    A is also times -1/2, which is exact in every dtype.
    """
    a, b = operands
    columns = a.shape[1] - 1 - a.columns.flip(0)
    turned = Sparse(a.nonzeros - a.starts.flip(0), columns, (a.values * -0.5).flip(0), a.shape, a.pattern)
    starts, (columns, values) = upside_down(b.starts, b.columns, b.values)
    other = Sparse(starts, columns, values, b.shape, b.pattern)
    starts, (columns, values, errors) = upside_down(*expected, allowed[2])
    return (turned, other), (starts, columns, values * -0.5), (*allowed[:2], errors)


def upside_down(starts: Tensor, *parts: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Rows in reverse order, each with its entries in their own."""
    lengths = starts.long().diff()
    turned = torch.zeros_like(starts)
    turned[1:] = lengths.flip(0).cumsum(0)
    shifts = (starts[:-1].flip(0) - turned[:-1]).long().repeat_interleave(lengths.flip(0))
    order = torch.arange(int(starts[-1])) + shifts
    return turned, [part[order] for part in parts]


def settle(answer: Any, expected: Parts) -> Any:
    """Torch's and SciPy's compressed rows, and a dense answer, as starts, columns and values in order.

    SciPy leaves out what sums to zero, and a dense answer does not tell it from what was never stored.
    """
    starts, columns, _ = expected
    if scipy.sparse.issparse(answer):
        nothing = np.zeros(len(columns), np.int8)
        where = scipy.sparse.csr_array((nothing, columns.numpy(), starts.numpy()), shape=answer.shape)
        return parts(completed(answer.tocsc().tocsr(), where))
    if isinstance(answer, Tensor) and answer.layout == torch.sparse_csr:
        return ordered(answer.crow_indices(), answer.col_indices(), answer.values())
    if isinstance(answer, Tensor) and answer.dim() == 2 and len(answer) == len(starts) - 1:
        stored = answer != 0
        stored[rows_of(starts), columns.long()] = True
        rows, found = stored.nonzero(as_tuple=True)
        return torch.searchsorted(rows, torch.arange(len(starts))), found, answer[stored]
    if isinstance(answer, tuple) and len(answer) == 3:
        return ordered(*map(torch.as_tensor, answer))
    return answer


def ordered(starts: Tensor, columns: Tensor, values: Tensor) -> Parts:
    """Compressed rows with columns ascending; as they are, if they are no compressed rows at all."""
    lengths = starts.long().diff()
    sound = len(columns) == len(values) == int(lengths.sum()) and bool((lengths >= 0).all())
    if not sound or not len(columns) or int(columns.min()) < 0:
        return starts, columns, values
    if ((columns.diff() > 0) | (rows_of(starts).diff() > 0)).all():
        return starts, columns, values
    shape = len(lengths), int(columns.max()) + 1
    places = np.arange(len(columns))
    order = scipy.sparse.csr_array((places, columns.numpy(), starts.numpy()), shape=shape).tocsc().tocsr()
    return starts, torch.from_numpy(order.indices), values[torch.from_numpy(order.data)]


def rows_of(starts: Tensor) -> Tensor:
    """The row of each entry."""
    return torch.arange(len(starts) - 1).repeat_interleave(starts.long().diff())


def multiplications(a: Sparse, b: Sparse) -> int:
    """Products of two nonzeros: a nonzero of A meets a row of B."""
    return int(b.row_lengths[a.columns.long()].sum())


def live_bytes(case: Case, operands: Operands) -> int:
    """A, the rows of B that some nonzero of it meets, and C; with what says where they are stored."""
    a, b = operands
    met = torch.zeros(a.shape[1], dtype=torch.bool).index_fill_(0, a.columns.long(), True)
    entries = a.nonzeros + int(b.row_lengths[met].sum()) + magnitudes(a, b).nnz
    return entries * (4 + case.torch_dtype.itemsize) + 4 * (2 * case["m"] + int(met.sum()))


SPGEMM = register(
    Op(
        name="spgemm",
        operands=("a", "b"),
        live=(0, 1),
        sizes=("m", "k", "p"),
        around=around,
        reference=reference,
        allowed=allowed,
        twin=twin,
        sized=lambda a, b: (*a.shape, b.shape[1]),
        stored=(0, 1),
        nominal=lambda case, _: 2 * case["m"] * case["k"] * case["p"],
        useful=lambda case, operands: 2 * multiplications(*operands),
        least_values=lambda case, operands: 0,
        live_bytes=live_bytes,
        answers=("starts", "columns", "values"),
        settle=settle,
        about="sparse times sparse",
    )
)
