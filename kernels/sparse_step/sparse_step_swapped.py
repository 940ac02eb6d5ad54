"""The measured swap: a dense layer is made sparse where it is 80 % sparse at least, and was measured faster.

SparseProp's rule (Nikdan et al., ICML 2023), by whole steps, forward and back, in turns with dense kernels.
Where the dense layer stays this kernel is refused and says why: the time of a dense step is no sparse one's.
Bad at: setup, which is all these steps.
"""

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter

from suite.formats.dense import too_large
from suite.kernel import Refused, kernel, prepared
from suite.kernels.sparse_step import sparse_step_dense_mm as mm
from suite.kernels.sparse_step import sparse_step_dense_onednn as onednn
from suite.kernels.sparse_step import sparse_step_tiled as tiled
from suite.ops.sparse_step import SPARSE_STEP

LEAST = 0.8
ROUNDS = 5

Step = Callable[[], object]


def stays(sparsity: float, sparse: Step, dense: Sequence[Step], clock=perf_counter) -> str:
    """Why the dense layer stays; empty where it is swapped. By medians of steps in turns, the first aside."""
    if round(sparsity, 3) < LEAST:  # for nonzeros are whole
        return f"{sparsity:.1%} of it is zeros, and the rule asks for {LEAST:.0%}"
    steps, seconds = (sparse, *dense), []
    for _ in range(ROUNDS + 1):
        for step in steps:
            began = clock()
            step()
            seconds.append(clock() - began)
    mine, *theirs = (median(seconds[at + len(steps) :: len(steps)]) for at in range(len(steps)))
    if mine < min(theirs):
        return ""
    return f"a dense step was measured at {min(theirs) * 1e3:.3g} ms, a sparse one at {mine * 1e3:.3g} ms"


def refuse(case, device):
    return [*tiled.refuse(case, device), *too_large(case)]


@kernel(
    op="sparse_step", on="cpu", dtypes=("float32",), refuse=refuse, ids=("sparseprop",), extents=("full",)
)
def sparse_step_swapped(pattern, values, x, dy):
    """`sparse_step_tiled` where it was measured faster than dense, at 80 % and above."""
    made, steps = [], []
    dense = [mm.sparse_step_dense_mm, *([onednn.sparse_step_dense_onednn] if onednn.there() else [])]
    for one in (tiled.sparse_step_tiled, *dense):
        operands = one.arrange((pattern, values, x, dy), SPARSE_STEP.live)
        made.append(prepared(one, operands))
        steps.append(lambda run=made[-1].run, live=operands[1:]: run(*live))
    if why := stays(pattern.sparsity, steps[0], steps[1:]):
        raise Refused(f"the dense layer stays: {why}")
    return made[0]
