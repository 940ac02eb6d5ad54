"""Op: a contract every kernel of its name keeps: these operands in, this answer out, at no less cost.

Reference, FLOPs and bytes stand together here, so no kernel can flatter its own rate.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from torch import Tensor

from suite.case import Case
from suite.registry import Unusable, pick

Operands = tuple[Any, ...]


@dataclass(frozen=True)
class Op:
    """What is computed, its slow reference, what rounding may cost, and the least the work can cost.

    live: positions of the operands that change from call to call; the others are fixed and may be converted.
    make(case): the operands, in the case's dtype, drawn from its seed or read from its data.
    reference(*operands): the answer in float64.
    allowed(case, operands, expected): the largest error rounding explains, element by element.
    twin(operands, expected, allowed): other live operands with their answer and tolerance, at no cost.
    nominal, useful(case, operands): FLOPs of the dense product, and of the nonzeros alone.
    least_values(case, operands): bytes no format can do without for the fixed operands' values.
    live_bytes(case, operands): bytes of the live operands that are touched, and of the answer.
    """

    name: str
    operands: tuple[str, ...]
    live: tuple[int, ...]
    sizes: tuple[str, ...]
    make: Callable[[Case], Operands]
    reference: Callable[..., Tensor]
    allowed: Callable[[Case, Operands, Tensor], Tensor]
    twin: Callable[[Operands, Tensor, Tensor], tuple[Operands, Tensor, Tensor]]
    nominal: Callable[[Case, Operands], int]
    useful: Callable[[Case, Operands], int]
    least_values: Callable[[Case, Operands], int]
    live_bytes: Callable[[Case, Operands], int]


OPS: dict[str, Op] = {}


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
    return [] if case.data else case.pattern.faults(case["m"], case["k"])


def make_operands(case: Case) -> Operands:
    """The operands of a case; one that does not exist is the user's mistake."""
    if wrong := faults(case):
        raise Unusable(f"case {case}: {'; '.join(wrong)}.")
    return OPS[case.op].make(case)
