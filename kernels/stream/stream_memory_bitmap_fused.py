"""Fused bitmap from memory: packed values and bits are brought over, and spread nowhere but in registers.

Bad at: what `spmm_bitmap` is bad at, which multiplies: more columns than a few.
"""

from suite.formats.bitmap import Bitmap, bitmap
from suite.kernel import kernel
from suite.kernels.spmm import spmm_bitmap as fused
from suite.kernels.stream.media import Memory
from suite.kernels.stream.streaming import Form, Ready, streamed


def keep(band):
    held = bitmap(band, fused.HEIGHT, fused.WIDTH)
    return held.values, held.bits, held.starts


def ready(staged, dense, out):
    values, bits, starts = staged
    held = Bitmap(bits, values, starts, fused.HEIGHT, fused.WIDTH, tuple(dense.shape))
    multiply, scratch = fused.multiplier(held, out, fused.library())
    return Ready(None, multiply, 2 * held.positions, (scratch,))


FORM = Form(keep, ready, order="rows")


@kernel(op="stream_memory", dtypes=("float32", "bfloat16"), refuse=fused.refuse, ids=("endor",))
def stream_memory_bitmap_fused(a, b):
    """A bitmap and packed values, from memory, multiplied as they are."""
    return streamed(a, b, FORM, Memory)
