"""Fused bitmap from disk: as `stream_memory_bitmap_fused`, with the weight in a file.

Bad at: more columns than a few.
"""

from suite.kernel import kernel
from suite.kernels.stream import stream_memory_bitmap_fused as form
from suite.kernels.stream.media import Disk, no_disk
from suite.kernels.stream.streaming import streamed


def refuse(case, device):
    return [*form.fused.refuse(case, device), *no_disk()]


@kernel(op="stream_disk", dtypes=("float32", "bfloat16"), refuse=refuse, ids=("endor",))
def stream_disk_bitmap_fused(a, b):
    """A bitmap and packed values, from disk, multiplied as they are."""
    return streamed(a, b, form.FORM, Disk)
