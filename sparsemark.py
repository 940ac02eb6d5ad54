"""sparsemark: what plug-ins and notebooks import.

    from sparsemark import kernel, Prepared            # a plug-in registers a kernel
    import sparsemark
    sparsemark.read("results/.../run.jsonl")           # a tidy DataFrame: median, low, high, speed-up
    sparsemark.run(case, kernels=[f])                  # a function from a cell, beside the dense kernels
    sparsemark.plot.speed_up(frame)                    # matplotlib figures

Everything else is `suite`'s own business and may change.
"""

from suite.case import Case, case, from_id
from suite.kernel import Prepared, kernel
from suite.notebook import run
from suite.op import discover_parts
from suite.pattern import parse as pattern
from suite.reading import figures as plot
from suite.reading.frame import read
from suite.workload import workload

discover_parts()  # patterns and ops are known by their spelling from here on

__all__ = ["Case", "Prepared", "case", "from_id", "kernel", "pattern", "plot", "read", "run", "workload"]
