"""Bitmap from memory: packed values and a bit for each position are brought over and unpacked, row by row.

The form of Endor (arXiv 2406.11674): 16-bit weights take density + 1/16 of their dense size.

Bad at: a transfer about as quick as unpacking, for the rows with zeros are written and read on top of it.
"""

from suite.formats.bitmap import bitmap
from suite.kernel import kernel
from suite.kernels.stream import rows, streaming
from suite.kernels.stream.media import Memory

WORD = 64  # bits of a row that are unpacked at once


def keep(band):
    held = bitmap(band, 1, WORD)
    return held.values, held.bits, held.starts


FORM = streaming.unpacked(keep, lambda staged, dense: rows.unpack("bits", *staged, into=dense))


@kernel(
    op="stream_memory",
    dtypes=("float32", "bfloat16"),
    live_order="columns",
    refuse=streaming.refuse,
    ids=("endor",),
)
def stream_memory_bitmap(a, b):
    """A bitmap and packed values, from memory, unpacked."""
    return streaming.streamed(a, b, FORM, Memory)
