"""Compressed rows from memory: values and 32-bit columns are brought over and unpacked, row by row.

Bad at: densities above a third, from where on 16-bit weights take more bytes so than dense.
"""

from suite.kernel import kernel
from suite.kernels.stream import rows, streaming
from suite.kernels.stream.media import Memory


def keep(band):
    return band.values, band.columns, band.starts


FORM = streaming.unpacked(keep, lambda staged, dense: rows.unpack("columns", *staged, into=dense))


@kernel(
    op="stream_memory",
    dtypes=("float32", "bfloat16"),
    live_order="columns",
    refuse=streaming.refuse,
    ids=("endor",),
)
def stream_memory_csr(a, b):
    """Compressed rows with 32-bit columns, from memory, unpacked."""
    return streaming.streamed(a, b, FORM, Memory)
