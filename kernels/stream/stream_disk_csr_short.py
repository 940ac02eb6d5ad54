"""Short compressed rows from disk: as `stream_memory_csr_short`, with the weight in a file.

Bad at: densities above 1/16.
"""

from suite.kernel import kernel
from suite.kernels.stream import stream_memory_csr_short as form
from suite.kernels.stream.media import Disk, no_disk
from suite.kernels.stream.streaming import streamed


def refuse(case, device):
    return [*form.refuse(case, device), *no_disk()]


@kernel(op="stream_disk", dtypes=("float32", "bfloat16"), live_order="columns", refuse=refuse, ids=("endor",))
def stream_disk_csr_short(a, b):
    """Compressed rows with 16-bit columns, from disk, unpacked."""
    return streamed(a, b, form.FORM, Disk)
