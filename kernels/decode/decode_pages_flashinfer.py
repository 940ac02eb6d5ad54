"""Kept pages by FlashInfer: its batch decoding over paged caches, where each head is a request of its own.

A request's pages are those that its head keeps, so leaving out is leaving off the list. Which they are, the
host has to know: what is chosen in a call is planned in it, and the call waits for the device.

Bad at: heads of one group, which then share no reading; choosing anew in each call, for the plan.
"""

import torch

from suite.kernel import Prepared, Refused, kernel
from suite.kernels.decode.by_flashinfer import DTYPES, ISA, library, refuse, workspace
from suite.ops.decode import bytes_read
from suite.selection import Selection


@kernel(op="decode", on="cuda", dtypes=DTYPES, isa=ISA, refuse=refuse, chooses=True)
def decode_pages_flashinfer(a, k, v, q):
    """FlashInfer's batch decoding over the pages that heads keep."""
    n, h, d = q.shape
    if int(a.row_lengths.min()) == 0:
        raise Refused("needs every head to look at a page")
    wrapper = library().BatchDecodeWithPagedKVCacheWrapper(workspace(q.device), "NHD")
    row = torch.arange(n * h, device=q.device)
    cache, now = None, None

    def look(a):
        """At these pages from now on."""
        nonlocal cache, now
        own, values = k, v
        if isinstance(a, Selection):
            if a.bias is not None:
                raise Refused("adds no biases to scores, and the selector brings some")
            own, values = (k if a.k is None else a.k), (v if a.v is None else a.v)
        groups, there = own.shape[1:3]
        page = there // a.shape[1]
        first = row // (h // groups) * a.shape[1]
        pages = a.columns.int() + first.repeat_interleave(a.row_lengths).int()
        whole = torch.full((n * h,), page, dtype=torch.int32, device=q.device)
        wrapper.plan(
            *(a.starts.int(), pages, whole, 1, 1, d, page), q_data_type=q.dtype, kv_data_type=q.dtype
        )
        cache, now = tuple(one.reshape(-1, page, 1, d) for one in (own, values)), a

    look(a)

    def run(q, found=None):
        if (wanted := a if found is None else found) is not now:
            look(wanted)
        return wrapper.run(q.view(n * h, 1, d), cache).view(n, h, d)

    return Prepared(
        run,
        values=lambda: bytes_read(now, k),
        metadata=a.starts.nbytes + a.columns.nbytes,
        holds=(k, v, workspace(q.device)),
        hidden=True,
    )
