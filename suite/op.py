"""Op: a contract every kernel of its name keeps: these operands in, this answer out, at no less cost.

Reference, FLOPs and bytes stand together here, so no kernel can flatter its own rate.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import torch
from torch import Tensor

from suite import sources
from suite.case import QUANTIZED, SCALES, Case, largest_of
from suite.quantized import as_stored
from suite.registry import Unusable, pick
from suite.sparse import Sparse, from_positions

Operands = tuple[Any, ...]
Answer = Tensor | tuple[Tensor, ...]
Answered = tuple[Operands, Any]  # operands, and their answer in float64


@dataclass(frozen=True)
class Op:
    """What is computed, its slow reference, what rounding may cost, and the least the work can cost.

    live: positions of the operands that change from call to call; the others are fixed and may be converted.
    shape(case): of the sparse matrix; m x k unless the op has other sizes.
    room(case): how many positions of it may hold a nonzero, of which its sparsity is the share that do not.
    rules(case): why there is no case of these sizes; empty if there is.
    around(case, a): all operands: the sparse matrix, which is the first, and others drawn to go with it.
    whole(case, operands): what dense kernels answer for, where that is not the same: nothing left out.
    filled(case, operands): operands with random numbers where zeros were, whose product takes other power.
    sparse(operands): whose sparsity and structure lines state; the first Sparse, unless it is among numbers.
    reference(*operands): the answer in float64, or a tuple of several; indices among them are whole numbers.
    allowed(case, operands, expected): the largest error rounding explains, element by element.
    twin(operands, expected, allowed): other live operands with their answer and tolerance, at no cost.
    nominal, useful(case, operands): FLOPs of the dense product, and of the nonzeros alone.
    least_values(case, operands): bytes no format can do without for the fixed operands' values.
    live_bytes(case, operands): bytes of the live operands that are touched, and of the answer.
    answers: what the parts of an answer are called, where it has several.
    settle(answer, expected): an answer in the form of the expected one, where kernels may choose another.
    quality(case, chosen, whole): what leaving out costs where that is chosen at run time, by name: the
        operands and the answer in float64 of what was chosen, and of the whole. None: nothing is chosen here.
    chosen: position of the operand in whose place a selector puts what it chose.
    turned(operands): other live operands, of which other things are worth choosing; by default the first is
        negated.
    sized(*operands): the sizes of the case that operands are of, as `sizes` has them. None: they do not tell.
    stored: positions of the operands that are sparse matrices.
    scaled: its numbers may have scales: one a tensor (suite.case.SCALES), which its reference then puts into
        the answer, or the weights one a group (suite.quantized), which are in their values.
    objections(operands): why operands that somebody brings are not the op's, if only their numbers tell.
    about: what a reader calls it; empty for the product that needs no name.
    """

    name: str
    operands: tuple[str, ...]
    live: tuple[int, ...]
    sizes: tuple[str, ...]
    around: Callable[[Case, Sparse], Operands]
    reference: Callable[..., Any]
    allowed: Callable[[Case, Operands, Any], Any]
    twin: Callable[[Operands, Any, Any], tuple[Operands, Any, Any]]
    nominal: Callable[[Case, Operands], int]
    useful: Callable[[Case, Operands], int]
    least_values: Callable[[Case, Operands], int]
    live_bytes: Callable[[Case, Operands], int]
    shape: Callable[[Case], tuple[int, int]] = lambda case: (case["m"], case["k"])
    room: Callable[[Case], int] | None = None
    rules: Callable[[Case], list[str]] = lambda case: []
    whole: Callable[[Case, Operands], Operands] | None = None
    filled: Callable[[Case, Operands], Operands] | None = None
    sparse: Callable[[Operands], Sparse | None] = lambda operands: next(
        (one for one in operands if isinstance(one, Sparse)), None
    )
    answers: tuple[str, ...] = ()
    settle: Callable[[Any, Any], Any] = lambda answer, expected: answer
    quality: Callable[[Case, "Answered", "Answered"], dict[str, float]] | None = None
    chosen: int = 0
    turned: Callable[[Operands], Operands] | None = None
    sized: Callable[..., tuple[int, ...]] | None = None
    stored: tuple[int, ...] = (0,)
    scaled: bool = False
    objections: Callable[[Operands], list[str]] = lambda operands: []
    about: str = ""


OPS: dict[str, Op] = {}
MODELS: dict[str, Callable[[Case], Sparse]] = {}  # by name: what finds a case's matrix among its layers


def register(op: Op) -> Op:
    """Make an op known by its name."""
    if op.name in OPS:
        raise ValueError(f"two ops are called {op.name!r}; rename one")
    OPS[op.name] = op
    return op


def discover_parts() -> None:
    """Import the instrument's own ops and patterns: one file each, no list to edit."""
    for folder in ("suite.ops", "suite.patterns"):
        for file in iter_modules(import_module(folder).__path__):
            import_module(f"{folder}.{file.name}")


def faults(case: Case) -> list[str]:
    """Why a case does not exist; empty if it does."""
    op = pick("op", case.op, OPS)
    if missing := [size for size in op.sizes if size not in case.extent]:
        return [f"{op.name} has the sizes {', '.join(op.sizes)}; {', '.join(missing)} is missing"]
    if bad := [f"{name}={size}" for name, size in case.sizes if size < 1]:
        return [f"sizes are at least 1, got {', '.join(bad)}"]
    if broken := op.rules(case):
        return broken
    if (case.torch_dtype in SCALES or case.dtype in QUANTIZED) and not op.scaled:
        return [f"{op.name} has no scales, which {case.dtype} needs"]
    if case.pattern.ops and op.name not in case.pattern.ops:
        return [f"{case.pattern} is a pattern of {', '.join(case.pattern.ops)}, not of {op.name}"]
    if case.pattern.at_run_time and not op.quality:
        return [f"{op.name} has nothing that is chosen at run time"]
    return [] if case.of_file and case.data else case.pattern.faults(*op.shape(case))


def fixed(case: Case, operands: Operands) -> Operands:
    """The operands that stay from call to call, but for the one that selectors put theirs in place of."""
    op = OPS[case.op]
    return tuple(one for at, one in enumerate(operands) if at != op.chosen and at not in op.live)


def sparsity(case: Case) -> float:
    """The share of zeros that the pattern of a case asks for."""
    return case.pattern.sparsity_of(*OPS[case.op].shape(case))


def make_operands(case: Case) -> Operands:
    """The operands of a case; one that does not exist is the user's mistake."""
    if wrong := faults(case):
        raise Unusable(f"case {case}: {'; '.join(wrong)}.")
    return OPS[case.op].around(case, weight(case))


def weight(case: Case) -> Sparse:
    """The sparse matrix of a case: its data, or its pattern with values standard normal, never constant.

    Data may be a matrix of its own, or name a model, a layer of which is pruned to the pattern.
    """
    shape = OPS[case.op].shape(case)
    if case.of_file:
        a = given(case)
        if a.shape != shape:
            raise Unusable(f"{case}: {case.data} is {a.shape[0]} x {a.shape[1]}. Give the case these sizes.")
        return a
    if case.data in MODELS:
        return MODELS[case.data](case)
    starts, columns = case.pattern.positions(*shape, case.seed)
    values = torch.randn(len(columns), generator=generator(case))
    return as_stored(case, from_positions(starts, columns, values, shape, case.pattern))


def given(case: Case) -> Sparse:
    """The matrix of a case's file in its dtype; where that has a scale, no number may be beyond its range."""
    scale = SCALES.get(case.torch_dtype)
    fine = torch.float32 if scale or case.dtype in QUANTIZED else case.torch_dtype
    a = sources.load(case.data, fine, case.seed, case.pattern)
    if (
        scale
        and a.nonzeros
        and (largest := float(a.values.abs().max())) > (most := scale * largest_of(case.torch_dtype))
    ):
        raise Unusable(
            f"{case}: {case.data} holds values up to {largest:.3g}; {case.dtype} reaches {most:.3g} at its "
            "scale. Measure it in another dtype, or scale it."
        )
    made = as_stored(case, a)
    if case.dtype in QUANTIZED and not made.values.isfinite().all():
        raise Unusable(f"{case}: {case.data} holds values that {case.dtype} has no scale for.")
    return made


def generator(case: Case, salt: int = 0) -> torch.Generator:
    """Random numbers of a case; those of another salt have nothing to do with them."""
    return torch.Generator().manual_seed(case.seed + (salt << 32))
