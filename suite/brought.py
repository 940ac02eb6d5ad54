"""Brought: a case made of operands that somebody has, where others are drawn to go with a case.

What an op would draw around the same sparse matrix says what operands must look like.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from suite.case import DTYPES, Case
from suite.op import OPS, Op, Operands, faults
from suite.patterns.given import Given
from suite.registry import Unusable, pick
from suite.sparse import Sparse, from_positions

DATA = "operand"  # of a case that is brought: a file's matrix has the file's name there


def brought(name: str, given: Sequence[Any]) -> tuple[Case, Operands]:
    """The case of these operands, and they as kernels know them. Raises Unusable where they are not the op's.

    given: all operands in the op's order; matrices as torch, SciPy or NumPy have them. The same sparse matrix
    is the same case, whatever the other numbers are.
    """
    op = pick("op", name, OPS)
    if op.sized is None:
        raise Unusable(f"the operands of {op.name} do not say which case they are; measure a workload's.")
    if len(given) != len(op.operands):
        raise Unusable(f"{op.name} takes {', '.join(op.operands)}; {len(given)} operands were given.")
    dtype = dtype_of(op, given)
    operands = tuple(
        as_sparse(one, DTYPES[dtype], called) if at in op.stored else as_dense(one, called)
        for at, (called, one) in enumerate(zip(op.operands, given, strict=True))
    )
    case = case_of(op, operands, dtype)
    agree(op, case, operands)
    if wrong := op.objections(operands):
        raise Unusable(f"{op.name}: {'; '.join(wrong)}.")
    return replace(case, data=f"{DATA}-{digest(op.sparse(operands))}"), operands


def dtype_of(op: Op, given: Sequence[Any]) -> str:
    """That of the first dense operand; where all are sparse, of the first."""
    at = next((at for at in range(len(given)) if at not in op.stored), 0)
    told = str(getattr(given[at], "dtype", "none")).removeprefix("torch.")
    if told not in DTYPES:
        raise Unusable(f"{op.operands[at]} is of dtype {told}; sparsemark measures {', '.join(DTYPES)}.")
    return told


def as_dense(one: Any, name: str) -> Tensor:
    """A tensor on the host, without a history."""
    if isinstance(one, np.ndarray):
        try:
            one = torch.from_numpy(np.array(one))  # a copy: a view may run backwards, or not be writable
        except TypeError:
            raise Unusable(f"{name} is of dtype {one.dtype}, which torch does not have.") from None
    if not isinstance(one, Tensor) or one.layout != torch.strided:
        raise Unusable(f"{name} must be a dense tensor, not {kind(one)}.")
    return one.detach().cpu()


def as_sparse(one: Any, dtype: torch.dtype, name: str) -> Sparse:
    """Whatever matrix somebody has, as compressed rows. A zero that is stored is a nonzero."""
    if isinstance(one, Sparse):
        return replace(one.to("cpu"), values=one.values.cpu().to(dtype), pattern=Given())
    if isinstance(one, Tensor):
        one = one.detach().cpu()
        if one.layout == torch.strided:
            one = as_array(one)
        else:
            stored = one.to_sparse().coalesce()
            one = scipy.sparse.coo_array(
                (as_array(stored.values()), tuple(stored.indices().numpy())), one.shape
            )
    if not (scipy.sparse.issparse(one) or isinstance(one, np.ndarray)) or one.ndim != 2:
        raise Unusable(f"{name} must be a matrix of torch, SciPy or NumPy, not {kind(one)}.")
    if one.dtype.kind not in "biuf":
        raise Unusable(f"{name} is of dtype {one.dtype}; its numbers must be real.")
    rows = scipy.sparse.csr_array(one, copy=True)
    rows.sum_duplicates()
    wide = torch.from_numpy(np.array(rows.data, np.float32))
    values = wide.to(dtype)
    if not dtype.is_floating_point and not torch.equal(values.float(), wide):
        raise Unusable(f"{name} holds numbers that {str(dtype).removeprefix('torch.')} does not have.")
    m, k = (int(side) for side in rows.shape)  # pyright: ignore
    return from_positions(rows.indptr, rows.indices, values, (m, k), Given())


def as_array(one: Tensor) -> np.ndarray:
    """As NumPy has it, which lacks bfloat16."""
    return (one if one.is_complex() else one.float()).numpy()


def case_of(op: Op, operands: Operands, dtype: str) -> Case:
    """A case of the sizes that operands have."""
    assert op.sized
    try:
        sizes = [(name, int(size)) for name, size in zip(op.sizes, op.sized(*operands), strict=True)]
    except (IndexError, ValueError, ZeroDivisionError):
        shapes = zip(op.operands, (times(one.shape) for one in operands), strict=True)
        shown = ", ".join(f"{name} {shape}" for name, shape in shapes)
        raise Unusable(f"these are no operands of {op.name}: {shown}.") from None
    case = Case(op.name, tuple(sizes), Given(), dtype, data=DATA)
    if wrong := faults(case):
        raise Unusable(f"{op.name}: {'; '.join(wrong)}.")
    return case


def agree(op: Op, case: Case, operands: Operands) -> None:
    """Hold operands against what the op would draw: shapes, dtype, and where the matrix may have nonzeros."""
    shape = op.shape(case)
    a = next((one for one in operands if isinstance(one, Sparse)), nothing(shape, case))
    if a.shape != shape:
        raise Unusable(misshapen(op, case, op.operands[op.stored[0]], a.shape, shape))
    drawn = op.around(replace(case, data=""), a)
    for name, mine, own in zip(op.operands, operands, drawn, strict=True):
        if tuple(mine.shape) != tuple(own.shape):
            raise Unusable(misshapen(op, case, name, mine.shape, own.shape))
        if mine.dtype != own.dtype:
            raise Unusable(f"{name} is {mine.dtype}, the others are {own.dtype}; {op.name} has one dtype.")
    own = next((one for one in drawn if isinstance(one, Sparse)), a)
    if not (torch.equal(own.starts, a.starts) and torch.equal(own.columns, a.columns)):
        raise Unusable(f"{op.name} wants nonzeros of {op.operands[op.stored[0]]} elsewhere than they are.")


def nothing(shape: tuple[int, int], case: Case) -> Sparse:
    """A matrix of zeros alone."""
    none = np.zeros(0, np.int32)
    values = torch.zeros(0, dtype=case.torch_dtype)
    return from_positions(np.zeros(shape[0] + 1, np.int32), none, values, shape, Given())


def misshapen(op: Op, case: Case, name: str, found: Sequence[int], wanted: Sequence[int]) -> str:
    sizes = ", ".join(f"{size}={number}" for size, number in case.sizes)
    return f"{name} is {times(found)}; {op.name} of {sizes} takes it as {times(wanted)}."


def digest(a: Sparse | None) -> str:
    """What a matrix is known by: the same numbers are the same case."""
    parts = () if a is None else (a.starts, a.columns, a.values)
    told = (one.contiguous().view(torch.uint8).numpy().tobytes() for one in parts)
    return hashlib.sha256(b"".join(told)).hexdigest()[:8]


def kind(one: Any) -> str:
    """What something is, for who brought it."""
    shape = getattr(one, "shape", None)
    return type(one).__name__ + (f" of {times(shape)}" if isinstance(shape, tuple) else "")


def times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "a scalar"
