"""Profile: one kernel on one case in this process, over and over, for a profiler to look at."""

from collections.abc import Sequence
from time import perf_counter

from suite.check import check, question
from suite.device import Device
from suite.kernel import KERNELS, prepared
from suite.op import OPS, make_operands
from suite.plan import Item
from suite.registry import Unusable

SECONDS = 5.0


def profile(items: Sequence[Item], device: Device, cache: str) -> int:
    """Check the answer, then call for five seconds and print how long a call took."""
    if len(items) != 1 or len(items[0].kernels) != 1:
        count = sum(len(item.kernels) for item in items)
        raise Unusable(
            f"--profile takes one case and one kernel, this is {count}; narrow with --case, --kernels."
        )
    case, kernel = items[0].case, KERNELS[items[0].kernels[0]]
    if reasons := kernel.refusals(case, device):
        raise Unusable(f"{kernel} does not run {case} here: {'; '.join(reasons)}.")
    device.pin()
    op = OPS[case.op]
    asked = question(case, make_operands(case))
    operands = kernel.arrange(device.place(asked.operands), op.live)
    made = prepared(kernel, operands)
    live = tuple(operands[at] for at in op.live)
    check(made.run(*live), asked)
    calls, timed, end = 0, 0.0, perf_counter() + SECONDS
    while perf_counter() < end:
        if cache == "cold":
            device.flush((made.holds, live))
            if made.hidden:
                device.evict()
        seconds, _ = device.time(lambda: made.run(*live))
        timed, calls = timed + seconds, calls + 1
    print(f"{kernel} on {case}: {calls} calls, {timed / calls:.3g} s each, {cache}")
    return 0
