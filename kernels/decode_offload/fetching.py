"""Fetching: the pages that heads look at, brought near side by side, and decoding over those alone.

They are a compact cache: of each group as many slots as the group that looks at most pages needs. The slot a
page came to takes the place of its number in the mask. What attends over it is decode's own kernel, on the
same terms.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from suite.kernel import Prepared
from suite.ops.decode import seen_pages
from suite.selection import Selection
from suite.sparse import Sparse


def fetched(
    a: Sparse, k: Tensor, v: Tensor, q: Tensor, place: Callable[..., Any], attend: Callable[..., Prepared]
) -> Prepared:
    """The kernel of a place (see far.py), and of decode's over what was brought from there."""
    (_, groups, there, d), heads = k.shape, q.shape[1] // k.shape[1]
    own = a.k if isinstance(a, Selection) else None
    page = (there if own is None else own.shape[2]) // a.shape[1]
    across = there // page
    most = len(q) * groups * min(across, heads * int(a.row_lengths.max()))
    far, came = place(k, v, page, most), 0
    held = {"near": k.new_zeros(2 * most * page * d)}

    def bring(a: Sparse) -> Selection:
        """What a looks at, with keys and values that are near."""
        nonlocal came
        if isinstance(a, Selection) and a.k is not None:
            return of_tokens(a)
        seen = seen_pages(a, groups, len(q))
        places = seen.flatten().nonzero()[:, 0]
        slot = seen.cumsum(1) - 1
        rows = torch.repeat_interleave(a.row_lengths) // heads
        columns = slot[rows, a.columns.long()].int()
        room = cache_of(max(1, int(slot[:, -1].max()) + 1))
        into = places // across * room.shape[2] + slot.flatten()[places]
        for half, one in zip(room.view(2, -1, page * d), far.bring(places, keys=True), strict=True):
            half[into] = one
        came = far.bytes_of(len(places), keys=True)
        keys, values = room.view(2, len(q), groups, -1, d)
        return Selection(a.starts, columns, a.values, (a.shape[0], room.shape[2]), a.pattern, keys, values)

    def of_tokens(a: Selection) -> Selection:
        """With keys of its own, and values of its tokens: as many pages of each group."""
        nonlocal came
        assert a.tokens is not None
        of_group = torch.arange(len(q) * groups, device=q.device).view(len(q), groups, 1) * across
        places = (a.tokens[..., ::page] // page + of_group).flatten()
        room = cache_of(a.tokens.shape[-1] // page)
        room[1].view(-1, page * d).copy_(far.bring(places, keys=False)[1])
        came = far.bytes_of(len(places), keys=False)
        return replace(a, v=room[1].view(len(q), groups, -1, d))

    def cache_of(slots: int) -> Tensor:
        """Room for so many pages of each group: keys, then values, [2, n * g, slots, page, d]."""
        count = 2 * len(q) * groups * slots * page * d
        if len(held["near"]) < count:
            held["near"] = k.new_zeros(count)
        return held["near"][:count].view(2, len(q) * groups, slots, page, d)

    first = bring(a)
    made = attend(first, first.k, first.v, q)

    def run(q: Tensor, found: Selection | None = None) -> Tensor:
        return made.run(q, bring(a if found is None else found))

    return replace(
        made,
        run=run,
        values=lambda: came,
        metadata=a.starts.nbytes + a.columns.nbytes,
        holds=(*made.holds, far.held, held),
        hidden=far.hidden,
    )
