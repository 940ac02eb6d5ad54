"""Ledger: whether what a line says of its work is what its case's id says, counted anew.

The id is parsed, and sparsity, FLOPs and least bytes follow from pattern and sizes. What follows from the
operands alone (a real matrix's nonzeros, products of two sparse matrices) is held between its bounds.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from suite import op as ops
from suite.case import Case, from_id
from suite.harmless import shown
from suite.op import OPS, Op
from suite.record import Result
from suite.registry import Unusable

DIGITS = 1e-7  # a line keeps eight digits of its sparsity


@dataclass(frozen=True)
class Counted:
    """Stands for a sparse operand where nothing but the number of its nonzeros is asked for."""

    nonzeros: int


def faults(line: Result) -> Iterator[str]:
    """Where a line and its case contradict each other."""
    try:
        case = from_id(line.case)
        wrong = ops.faults(case)
    except (Unusable, ArithmeticError) as unknown:
        yield f"case: {shown(str(unknown))}"
        return
    if wrong:
        yield from (f"case: {one}" for one in wrong)
        return
    yield from differences(line, case)
    if line.scope == "kernel":  # what a layer adds, no id tells
        yield from of_work(line, case, OPS[case.op])


def differences(line: Result, case: Case) -> Iterator[str]:
    """What the line repeats of its case, and not as it is there."""
    for name, there in {
        "op": case.op,
        "sizes": dict(case.sizes),
        "pattern": str(case.pattern),
        "dtype": case.dtype,
        "seed": case.seed,
        "data": case.data,
        "phase": case.regime,
    }.items():
        if (here := getattr(line, name)) != there:
            yield f"{name} is {here}, and {there} in its case"


def of_work(line: Result, case: Case, op: Op) -> Iterator[str]:
    """Sparsity, FLOPs and bytes."""
    m, k = op.shape(case)
    cells = op.room(case) if op.room else m * k
    loose = case.pattern.at_run_time and op.chosen not in op.stored  # a budget that is met on average
    expected = (
        None if case.pattern.given or op.room or loose else case.pattern.count(m, k)
    )  # a causal mask cuts its pattern
    if (
        line.sparsity is not None
        and expected is not None
        and abs(line.sparsity - 1 + expected / cells) > DIGITS
    ):
        yield f"sparsity is {line.sparsity:.8g}; {case.pattern} of these sizes has {1 - expected / cells:.8g}"
    if line.flops_nominal is None or line.flops_useful is None:
        if line.seconds:
            yield "times without the FLOPs they stand for"
        return
    if (nominal := op.nominal(case, ())) != line.flops_nominal:
        yield f"flops_nominal is {line.flops_nominal}; sizes make it {nominal}"
    if line.flops_useful > line.flops_nominal:
        yield f"flops_useful is {line.flops_useful}, more than the dense product's"
    if line.dense and (line.flops_executed or nominal) < nominal:
        yield f"a dense kernel that executes {line.flops_executed} of {nominal} FLOPs"
    if line.sparsity is None:
        return
    nonzeros = expected if expected is not None else round((1 - line.sparsity) * cells)
    unsure = 0 if expected is not None else DIGITS * cells
    useful, each = of(op.useful, case, nonzeros), of(op.useful, case, 1)
    if useful is not None and abs(line.flops_useful - useful) > unsure * (each or 0):
        yield f"flops_useful is {line.flops_useful}; its nonzeros make it {useful}"
    least = of(op.least_values, case, round(nonzeros - unsure))
    if line.bytes_values is not None and line.bytes_values + (line.bytes_metadata or 0) < (least or 0):
        yield f"{line.bytes_values} bytes of values; its nonzeros alone are {least}"


def of(count: Callable[[Case, Any], int], case: Case, nonzeros: int) -> int | None:
    """What an op counts for so many nonzeros. None: it looks at where they stand."""
    try:
        return count(case, (Counted(nonzeros),))
    except (AttributeError, TypeError, IndexError, ValueError):
        return None
