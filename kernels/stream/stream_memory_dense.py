"""Dense from memory: the weight is brought over with its zeros in place.

Bad at: zeros, which are brought over too. It is what the other forms are measured against.
"""

from suite.kernel import kernel
from suite.kernels.stream.media import Memory
from suite.kernels.stream.streaming import Form, multiplied, refuse, streamed

FORM = Form(
    keep=lambda band: (band.dense,),
    ready=lambda staged, dense, out: multiplied(staged[0], out),
)


@kernel(
    op="stream_memory",
    dtypes=("float32", "bfloat16"),
    dense=True,
    live_order="columns",
    refuse=refuse,
    ids=("endor",),
)
def stream_memory_dense(a, b):
    """Zeros in place, from memory."""
    return streamed(a, b, FORM, Memory)
