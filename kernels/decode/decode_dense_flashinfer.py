"""Dense on a GPU: the whole cache by FlashInfer's batch decoding, a request for each group of heads.

A group's heads share what is read; by tensor cores where there are several. Bad at: every sparsity.
"""

from math import gcd

import torch

from suite.kernel import Prepared, kernel
from suite.kernels.decode.by_flashinfer import DTYPES, ISA, library, refuse, workspace

PAGE = 16  # tokens
FEW = 2  # heads of a group that are quicker without tensor cores


@kernel(op="decode", on="cuda", dtypes=DTYPES, isa=ISA, refuse=refuse, dense=True)
def decode_dense_flashinfer(a, k, v, q):
    """FlashInfer's batch decoding over all pages."""
    (n, h, d), (groups, there) = q.shape, k.shape[1:3]
    page, heads, requests = gcd(there, PAGE), h // groups, n * groups
    wrapper = library().BatchDecodeWithPagedKVCacheWrapper(
        workspace(q.device), "NHD", use_tensor_cores=heads > FEW
    )
    pages = torch.arange(requests * there // page, dtype=torch.int32, device=q.device)
    starts = torch.arange(requests + 1, dtype=torch.int32, device=q.device) * (there // page)
    whole = torch.full((requests,), page, dtype=torch.int32, device=q.device)
    wrapper.plan(*(starts, pages, whole, heads, 1, d, page), q_data_type=q.dtype, kv_data_type=q.dtype)
    cache = tuple(one.view(-1, page, 1, d) for one in (k, v))

    def run(q):
        return wrapper.run(q.view(requests, heads, d), cache).view(n, h, d)

    holds = (k, v, pages, starts, whole, workspace(q.device))
    return Prepared(run, values=k.nbytes + v.nbytes, metadata=0, holds=holds, hidden=True)
