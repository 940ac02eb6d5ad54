"""Dense on a GPU: all of the cache is copied from the host's pinned memory, then attended to in Triton.

What fetching pages is measured against. Bad at: every sparsity.
"""

from dataclasses import replace

from suite.kernel import kernel
from suite.kernels.decode.decode_gather_triton import DTYPES, ISA, pages, refuse


@kernel(op="decode_offload", on="cuda", dtypes=DTYPES, isa=ISA, refuse=refuse, dense=True)
def decode_offload_host_dense(a, k, v, q):
    """All of the cache copied from pinned memory, and flash decoding over it."""
    far = [one.cpu().pin_memory() for one in (k, v)]
    near = [one.clone() for one in (k, v)]
    made = pages.prepare(None, *near, q)

    def run(q):
        for own, one in zip(near, far, strict=True):
            own.copy_(one, non_blocking=True)
        return made.run(q)

    return replace(made, run=run, holds=(*made.holds, *far))
