"""Monarch factors on tensor cores, in Triton: what diagonal_triton.py says, twice.

What the first factor answers is written where the second reads it: no copy is made between the two, which
torch needs where a block and a group share more than one hidden number. Bad at: what that is bad at.
"""

from suite.cuda.terms import in_triton, no_triton
from suite.formats.monarch import blocks
from suite.kernel import Prepared, kernel
from suite.patterns.monarch import Monarch

diagonal = in_triton("suite.kernels.factored.diagonal_triton")


@kernel(
    op="factored",
    on="cuda",
    dtypes=("float32", "bfloat16", "float16"),
    patterns=(Monarch,),
    isa=("sm_80",),
    refuse=no_triton,
    ids=("monarch",),
)
def factored_triton(a, x):
    """Two block-diagonal products in Triton, with the permutations in their stores."""
    held, n = blocks(a.to("cpu")), x.shape[1]
    right, left = (one.to(x.device).contiguous() for one in (held.right, held.left))
    hidden, out = x.new_empty(left.shape[0] * left.shape[2], n), x.new_empty(a.shape[0] - a.shape[1], n)
    first = diagonal.bind(right, held.rank, x, hidden)
    second = diagonal.bind(left, 1, hidden, out)

    def run(x):
        first.launch(x)
        second.launch(hidden)
        return out

    return Prepared(
        run,
        executed=first.executed + second.executed,
        values=right.nbytes + left.nbytes,
        metadata=0,
        holds=(right, left, hidden, out),
        note={"first": first.way, "second": second.way},
    )
