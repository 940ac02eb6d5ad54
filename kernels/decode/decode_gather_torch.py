"""Gather in torch: pages are copied side by side, then attended to in three calls.

What users write first. Each kept page is read, written and read again. Bad at: pages of few tokens, whose
copies are short, and rows that keep unlike many, which are filled up to the longest.
"""

import torch

from suite.kernel import Prepared, kernel
from suite.kernels.decode.decode_matmul import attend
from suite.ops.decode import bytes_read
from suite.selection import Selection


def slots(a):
    """Pages of each row [rows, most], short rows filled up with the first page; and which slots are real."""
    lengths = a.row_lengths
    most = max(1, int(lengths.max()))
    places = torch.arange(most, device=lengths.device)
    real = places < lengths[:, None]
    pages = torch.zeros(len(lengths), most, dtype=torch.int64, device=lengths.device)
    pages[real] = a.columns.long()
    return pages, real


@kernel(op="decode", on="cpu", dtypes=("float32", "bfloat16"), chooses=True)
def decode_gather_torch(a, k, v, q):
    """Pages copied by index_select, then two batched products and a softmax between them."""
    n, h, d = q.shape
    now, held = a, {"k": k, "v": v}  # what the call before looked at; copies, and where they come from

    def look(a):
        """Where the pages of each row lie, the mask of its tokens, and the cache itself, page by page."""
        nonlocal now
        own, values, bias = k, v, None
        if isinstance(a, Selection):
            own, values, bias = (k if a.k is None else a.k), (v if a.v is None else a.v), a.bias
        groups, tokens = own.shape[1:3]
        page, across = tokens // a.shape[1], a.shape[1]
        pages, real = slots(a)
        row = torch.arange(n * h, device=pages.device)
        places = (pages + (row // (h // groups) * across)[:, None]).flatten()
        mask = None
        if not bool(real.all()) or bias is not None:
            mask = torch.zeros(n * h, 1, real.shape[1], page, dtype=torch.float32, device=pages.device)
            if bias is not None:
                mask += bias.view(-1, page)[places].view(mask.shape)
            mask.masked_fill_(~real[:, None, :, None], -torch.inf)
            mask = mask.flatten(2).to(q.dtype)
        now = a
        held.update(places=places, real=real, mask=mask)
        return places, real, mask, own.view(-1, page * d), values.view(-1, page * d)

    kept = look(a)
    held["near"] = k.new_empty(2, len(kept[0]), kept[3].shape[1])

    def run(q, found=None):
        nonlocal kept
        if found is not None or now is not a:
            kept = look(a if found is None else found)
        places, real, mask, *cache = kept
        if held["near"].shape[1] != len(places):
            held["near"] = k.new_empty(2, len(places), cache[0].shape[1])
        near = held["near"]
        for one, copied in zip(cache, near, strict=True):
            torch.index_select(one, 0, places, out=copied)
        out = attend(q.view(n * h, 1, d), *near.view(2, n * h, -1, d), mask)
        return out.view(n * h, d).masked_fill_(~real[:, :1], 0.0).view(n, h, d)

    return Prepared(
        run,
        executed=lambda: 4 * held["near"][0].numel(),
        values=lambda: bytes_read(now, k),
        metadata=a.starts.nbytes + a.columns.nbytes,
        holds=(held,),
    )
