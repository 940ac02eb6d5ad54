"""Bitmap from disk: as `stream_memory_bitmap`, with the weight in a file.

Bad at: little: a disk is slower than unpacking.
"""

from suite.kernel import kernel
from suite.kernels.stream import stream_memory_bitmap as form
from suite.kernels.stream import streaming
from suite.kernels.stream.media import Disk, no_disk


def refuse(case, device):
    return [*streaming.refuse(case, device), *no_disk()]


@kernel(op="stream_disk", dtypes=("float32", "bfloat16"), live_order="columns", refuse=refuse, ids=("endor",))
def stream_disk_bitmap(a, b):
    """A bitmap and packed values, from disk, unpacked."""
    return streaming.streamed(a, b, form.FORM, Disk)
