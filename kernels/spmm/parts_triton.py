"""Parts in Triton: sums of split rows, kept apart in float32 by whoever made them, added in a fixed order.

No atomics: an answer is the same in every call, and 16-bit answers are rounded once.
"""

from math import gcd

import torch
import triton
import triton.language as tl

SIZE = 1024  # elements a program
ALIGNED = 16  # elements


@triton.jit
def add_up(split, edges, partial, out, size, total, SIZE: tl.constexpr):
    """Of one split row, `size` elements of the answer, and of these SIZE."""
    number = tl.program_id(0)
    size = tl.cast(size, tl.int64)
    at = tl.program_id(1) * SIZE + tl.arange(0, SIZE)
    where = tl.load(split + number) * size + at
    inside = (at < size) & (where < total)
    sums = tl.zeros((SIZE,), tl.float32)
    for segment in range(tl.load(edges + number), tl.load(edges + number + 1)):
        sums += tl.load(partial + segment * size + at, mask=inside, other=0.0)
    tl.store(out + where, sums.to(out.dtype.element_ty), mask=inside)


class Parts:
    """Where the segments of split rows leave their sums. A row is `height` rows of the answer."""

    def __init__(self, pieces, height, out):
        self.pieces, self.out, self.size = pieces, out, height * out.shape[1]
        self.partial = out.new_empty(pieces.shared * self.size, dtype=torch.float32)

    def add_up(self):
        """Launched only where something is split."""
        if len(self.pieces.split):
            add_up[(len(self.pieces.split), -(-self.size // SIZE))](
                *(self.pieces.split, self.pieces.edges, self.partial, self.out),
                *(self.size, self.out.numel()),
                SIZE=SIZE,
            )


def unit_of(n):
    """What of n columns a kernel is compiled to know that they are a multiple of, for wide loads.

    Triton looks for multiples of 16 by itself; rows of 8 numbers of two bytes are 16 bytes, too.
    """
    return gcd(n, ALIGNED)
