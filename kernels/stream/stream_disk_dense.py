"""Dense from disk: as `stream_memory_dense`, with the weight in a file.

Bad at: zeros, which are read too.
"""

from suite.kernel import kernel
from suite.kernels.stream import stream_memory_dense as form
from suite.kernels.stream import streaming
from suite.kernels.stream.media import Disk, no_disk


def refuse(case, device):
    return [*streaming.refuse(case, device), *no_disk()]


@kernel(
    op="stream_disk",
    dtypes=("float32", "bfloat16"),
    dense=True,
    live_order="columns",
    refuse=refuse,
    ids=("endor",),
)
def stream_disk_dense(a, b):
    """Zeros in place, from disk."""
    return streaming.streamed(a, b, form.FORM, Disk)
