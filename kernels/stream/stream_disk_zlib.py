"""zlib from disk: as `stream_memory_zlib`, with the weight in a file.

Bad at: disks that are quicker than its decoding.
"""

from suite.kernel import kernel
from suite.kernels.stream import stream_memory_zlib as form
from suite.kernels.stream import streaming
from suite.kernels.stream.media import Disk, no_disk


def refuse(case, device):
    return [*streaming.refuse(case, device), *no_disk()]


@kernel(op="stream_disk", dtypes=("float32", "bfloat16"), live_order="columns", refuse=refuse, ids=("endor",))
def stream_disk_zlib(a, b):
    """What zlib makes of the dense weight, from disk, decoded."""
    return streaming.streamed(a, b, form.FORM, Disk)
