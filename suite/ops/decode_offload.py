"""decode_offload: decode over a cache that does not stay: a call brings over what it looks at.

The contract is that of decode. Where the cache lies is said by the kernel: on a disk, which is to a processor
what a host's memory is to a GPU, or in that memory. Keys and values that come from there are a kernel's
values, what else comes with them included. What a selector keeps near is another sum: what a call reads of it
is metadata, and all of it, as a share of the whole cache, is told beside quality, as `near`. A memory that
holds one sequence whole holds 1 / near of them so: the batch that fits grows as much.

Dense kernels bring over everything. A selection may bring keys of its own and no values: those of its tokens,
which are whole pages, are then fetched.
"""

from dataclasses import replace

from suite.case import Case
from suite.op import Answered, Operands, register
from suite.ops import decode
from suite.ops.decode import DECODE
from suite.selection import Selection


def bytes_fetched(operands: Operands) -> int:
    """Of the pages that some head of a group looks at: keys, unless the selection has its own, and values."""
    a, k, *_ = operands
    both = decode.bytes_read(a, k)
    return both // 2 if isinstance(a, Selection) and a.k is not None else both


def quality(case: Case, chosen: Answered, whole: Answered) -> dict[str, float]:
    """What decode says, and how much of a cache the selector keeps near."""
    (found, k, v, _), _ = chosen
    return decode.quality(case, chosen, whole) | {"near": found.near / (k.nbytes + v.nbytes)}


DECODE_OFFLOAD = register(
    replace(
        DECODE,
        name="decode_offload",
        least_values=lambda case, operands: bytes_fetched(operands),
        quality=quality,
        about="decoding over an offloaded cache",
    )
)
