"""Dense: all of the cache is read from a disk, then attended to by the code that decode_stream.py runs.

What has no rule of what to leave out must bring everything: it is what fetching pages is measured against. A
cache in memory is `decode`, whose cases stand beside. Bad at: every sparsity.
"""

from dataclasses import replace

import torch

from suite import native
from suite.kernel import kernel
from suite.kernels.decode.decode_gather import DTYPES, SOURCE, stream
from suite.kernels.decode_offload.decode_offload_disk import refuse
from suite.kernels.decode_offload.far import Disk


@kernel(op="decode_offload", on="cpu", dtypes=DTYPES, refuse=refuse, dense=True)
def decode_offload_disk_dense(a, k, v, q):
    """All of the cache read from a disk, and attention in C++ over it."""
    far, whole = Disk(k, v, page=k.numel() // k.shape[-1], most=1), torch.zeros(1, dtype=torch.int64)
    near = (one.view(k.shape) for one in far.bring(whole, keys=True))
    made = stream(native.load(SOURCE), *near, q)

    def run(q):
        far.bring(whole, keys=True)
        return made.run(q)

    return replace(made, run=run, holds=(*made.holds, far.held), hidden=far.hidden)
