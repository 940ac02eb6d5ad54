"""Profile: one kernel on one case in this process, for a profiler: on a CPU over and over, on a GPU once."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import torch

from suite.check import check, question
from suite.device import Device
from suite.measure import Contender
from suite.op import OPS, make_operands
from suite.plan import Item
from suite.registry import Unusable
from suite.selector import entries, ready

SECONDS = 5.0  # of calls on a CPU
WARM = 3  # calls before the one that is profiled


def profile(items: Sequence[Item], device: Device, cache: str) -> int:
    """Check the answer, then call."""
    if len(items) != 1 or len(items[0].kernels) != 1:
        count = sum(len(item.kernels) for item in items)
        raise Unusable(
            f"--profile takes one case and one kernel, this is {count}; narrow with --case, --kernels."
        )
    case, kernel = items[0].case, entries()[items[0].kernels[0]]
    if reasons := kernel.refusals(case, device):
        raise Unusable(f"{kernel} does not run {case} here: {'; '.join(reasons)}.")
    device.confine()
    op = OPS[case.op]
    asked = question(case, make_operands(case))
    asked = replace(asked, operands=device.place(asked.operands)).of(kernel)
    operands = kernel.arrange(asked.operands, op.live)
    made = ready(kernel, case, operands)
    live = tuple(operands[at] for at in op.live)
    check(made.run(*live), asked)
    if device.kind == "cuda":
        return one_call(lambda: made.run(*live), device, f"{kernel} on {case}")
    contender = Contender(kernel.name, lambda: made.run(*live), (made.holds, live), made.hidden)
    timer, seconds, end = device.timer(contender, cache), [], perf_counter() + SECONDS
    while perf_counter() < end:
        seconds.append(timer.sample())
    print(f"{kernel} on {case}: {len(seconds)} calls, {sum(seconds) / len(seconds):.3g} s each, {cache}")
    return 0


def one_call(call: Callable[[], Any], device: Device, name: str) -> int:
    """Between the profiler's start and its stop, in a range of its own; no flush and no meter inside.

    What chooses or compiles itself has done so before: the calls here are the second and those after it.
    """
    for _ in range(WARM):
        call()
    device.wait()
    torch.cuda.profiler.start()
    with torch.cuda.nvtx.range(name):
        call()
        device.wait()
    torch.cuda.profiler.stop()
    print(f"{name}: one call profiled; `nsys profile -c cudaProfilerApi` and `ncu` see that one alone")
    return 0
