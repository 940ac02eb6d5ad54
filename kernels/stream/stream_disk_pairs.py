"""Pairs from disk: as `stream_memory_pairs`, with the weight in a file.

Bad at: patterns other than 2:4.
"""

from suite.kernel import kernel
from suite.kernels.stream import stream_memory_pairs as form
from suite.kernels.stream.media import Disk, no_disk
from suite.kernels.stream.streaming import streamed


def refuse(case, device):
    return [*form.refuse(case, device), *no_disk()]


@kernel(
    op="stream_disk",
    dtypes=("float32", "bfloat16"),
    patterns=(form.NofM,),
    divides={"k": 4},
    live_order="columns",
    refuse=refuse,
    ids=("endor",),
)
def stream_disk_pairs(a, b):
    """2:4 values and places, from disk, unpacked."""
    return streamed(a, b, form.FORM, Disk)
