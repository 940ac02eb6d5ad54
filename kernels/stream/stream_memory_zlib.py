"""zlib from memory: the weight with its zeros in place, as a general entropy coder writes it in a hurry.

It knows nothing of weights: a zero costs a little, and so does what repeats among the bits of the others.

Bad at: anything quicker than an old disk, for it decodes a few hundred megabytes a second on one core, and
allocates what it decodes.
"""

import zlib

import numpy as np
import torch

from suite.kernel import kernel
from suite.kernels.stream.media import Memory
from suite.kernels.stream.streaming import refuse, streamed, unpacked

LEVEL = 1


def keep(band):
    plain = band.dense.view(torch.uint8).numpy()
    return (torch.frombuffer(bytearray(zlib.compress(plain, LEVEL)), dtype=torch.uint8),)


def unpack(staged, dense):
    packed, plain = staged[0].numpy(), dense.view(torch.uint8).numpy().reshape(-1)

    def decode():
        plain[:] = np.frombuffer(zlib.decompress(packed, bufsize=plain.nbytes), np.uint8)

    return decode


FORM = unpacked(keep, unpack)


@kernel(
    op="stream_memory", dtypes=("float32", "bfloat16"), live_order="columns", refuse=refuse, ids=("endor",)
)
def stream_memory_zlib(a, b):
    """What zlib makes of the dense weight, from memory, decoded."""
    return streamed(a, b, FORM, Memory)
