"""sparsemark: what plug-ins and notebooks import.

    from sparsemark import kernel, Prepared            # a plug-in registers a kernel
    from sparsemark import selector, by_row            # or a rule by which kernels choose what they keep
    from sparsemark import criterion, trainer          # or a part of a method, for `sparsemark study`
    from sparsemark import task, Problem               # or a task of its own
    import sparsemark
    sparsemark.read("results/.../run.jsonl")           # a tidy DataFrame: median, low, high, speed-up
    sparsemark.run(case, kernels=[f])                  # a function from a cell, beside the dense kernels
    sparsemark.plot.speed_up(frame)                    # matplotlib figures

Everything else is `suite`'s own business and may change.
"""

from suite.case import Case, case, from_id
from suite.kernel import Prepared, kernel
from suite.method import allocator, criterion, refiner, trainer, transform
from suite.notebook import run
from suite.op import discover_parts
from suite.pattern import parse as pattern
from suite.reading import figures as plot
from suite.reading.frame import read
from suite.selection import by_head, by_layer, by_row
from suite.selector import selector
from suite.task import Problem, task
from suite.workload import workload

discover_parts()  # patterns and ops are known by their spelling from here on

__all__ = [
    "Case",
    "Prepared",
    "Problem",
    "allocator",
    "by_head",
    "by_layer",
    "by_row",
    "case",
    "criterion",
    "from_id",
    "kernel",
    "pattern",
    "plot",
    "read",
    "refiner",
    "run",
    "selector",
    "task",
    "trainer",
    "transform",
    "workload",
]
