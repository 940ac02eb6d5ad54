"""Pages in Triton: one query a head over the pages that it keeps, in parts that many programs read at a time.

After Dao et al., "Flash-Decoding for Long-Context Inference", 2023. One sequence has too few heads for a GPU,
so the tokens of a group of heads are cut into parts of equal length, and each part leaves its largest score
and its sums, of weights and of values by weight; a second launch puts them together. No atomics.

Heads that share keys and values are the rows of one tile, so what they look at is read once for all of them.
They may keep different pages: each page that some head of a group keeps is listed with a bit for each head
that does. A mask that stays is listed when the kernel is prepared, one that is chosen in a call by two small
launches within it. How many pages that gives, the host never learns: parts are as many as keep the processors
busy, and how long they are is found on the device.

A step takes as many tokens of neighbouring pages on the list as tensor cores want, so pages may have any
number of tokens.
"""

from dataclasses import dataclass
from math import sqrt

import torch
import triton
import triton.language as tl
from torch import Tensor

from suite.cuda.tuning import Way, processors, quickest
from suite.kernel import Prepared
from suite.kernels.attention.flash_triton import LOG2E, LOWEST, power
from suite.selection import Selection
from suite.sparse import Sparse

LEAST = 16  # of a side that tensor cores take
MARKED = 1024  # of a row's list, in a step of a program that marks
LISTED = 1024  # pages, in a step of a program that lists
LOOKED_UP = 2  # stages of a pipeline until it is known which pages a step is of
PARTS = 128  # of a group, at most: one program puts them together


# Tokens of a step, programs for each processor; by the bytes of a number.
WAYS = {
    2: (
        *(Way((64, 2), 4, 3), Way((64, 4), 4, 3), Way((64, 4), 4, 2), Way((32, 4), 2, 4), Way((32, 8), 2, 3)),
        *(Way((128, 2), 4, 2), Way((128, 2), 8, 2), Way((16, 8), 1, 4)),
    ),
    4: (Way((32, 4), 4, 2), Way((32, 2), 4, 3), Way((64, 2), 4, 2), Way((16, 4), 2, 3)),
}


@triton.jit
def mark(starts, columns, marks, pages, SIZE: tl.constexpr):
    """A 1 for each page that a row keeps: marks [rows, pages]."""
    row = tl.program_id(0)
    for at in range(tl.load(starts + row), tl.load(starts + row + 1), SIZE):
        number = at + tl.arange(0, SIZE)
        real = number < tl.load(starts + row + 1)
        page = tl.load(columns + number, mask=real, other=0)
        tl.store(marks + tl.cast(row, tl.int64) * pages + page, 1, mask=real)


@triton.jit
def unite(marks, listed, bits, counts, pages, HEADS: tl.constexpr, SIZE: tl.constexpr):
    """The pages that some head of a group keeps, a bit for each that does, and how many. Wipes the marks."""
    group = tl.cast(tl.program_id(0), tl.int64)
    count = 0
    for at in range(0, pages, SIZE):
        page = at + tl.arange(0, SIZE)
        word = tl.zeros((SIZE,), tl.int32)
        for head in tl.static_range(HEADS):
            own = marks + (group * HEADS + head) * pages + page
            word |= tl.load(own, mask=page < pages, other=0).to(tl.int32) << head
            tl.store(own, 0, mask=page < pages)
        kept = (word != 0).to(tl.int32)
        place = group * pages + count + tl.cumsum(kept, 0) - kept
        tl.store(listed + place, page, mask=word != 0)
        tl.store(bits + place, word, mask=word != 0)
        count += tl.sum(kept, 0)
    tl.store(counts + group, count)


@triton.jit
def attend(
    listed,
    bits,
    counts,
    q,
    k,
    v,
    bias,
    partial,
    there,
    pages,
    parts,
    root,
    HEADS: tl.constexpr,
    ROWS: tl.constexpr,
    D: tl.constexpr,
    WIDE: tl.constexpr,
    PAGE: tl.constexpr,
    TOKENS: tl.constexpr,
):
    """Of a group's heads, the sums over one part of what they look at.

    partial: for each group and part, float32 [ROWS, WIDE] of values by weight, largest scores, weights.
    there: tokens of the cache. Without a list, all of them are looked at.
    """
    group, part = tl.program_id(0) // parts, tl.program_id(0) % parts
    head, deep = tl.arange(0, ROWS), tl.arange(0, WIDE)
    inside = deep < D
    own = tl.cast(group, tl.int64) * there
    k += own * D
    v += own * D
    real = (head[:, None] < HEADS) & inside[None, :]
    queries = tl.load(q + (group * HEADS + head)[:, None] * D + deep[None, :], mask=real, other=0.0)
    count = there if listed is None else tl.load(counts + group) * PAGE
    length = tl.cdiv(tl.cdiv(count, TOKENS), parts) * TOKENS
    most = tl.full((ROWS,), LOWEST, tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    sums = tl.zeros((ROWS, WIDE), tl.float32)
    for at in range(part * length, tl.minimum(count, (part + 1) * length), TOKENS):
        token = at + tl.arange(0, TOKENS)
        looked = token < count
        if listed is not None:
            slot = tl.cast(group, tl.int64) * pages + token // PAGE
            page = tl.load(listed + slot, mask=looked, other=0)
            word = tl.load(bits + slot, mask=looked, other=0)
            token = page * PAGE + token % PAGE
        place = token.to(tl.int64) * D
        keys = tl.load(k + place[None, :] + deep[:, None], mask=looked[None, :] & inside[:, None], other=0.0)
        scores = tl.dot(queries, keys, input_precision="ieee")
        if bias is not None:
            scores += (tl.load(bias + own + token, mask=looked, other=0.0) * root)[None, :]
        if listed is None:
            scores = tl.where(looked[None, :], scores, -float("inf"))
        else:
            scores = tl.where((word[None, :] >> head[:, None]) & 1 != 0, scores, -float("inf"))
        scale = LOG2E / root
        now = tl.maximum(most, tl.max(scores, 1) * scale)
        below = scores * scale - now[:, None]
        weights = power(below) if queries.dtype == tl.float32 else tl.exp2(below)
        fade = tl.exp2(most - now)
        values = tl.load(
            v + place[:, None] + deep[None, :], mask=looked[:, None] & inside[None, :], other=0.0
        )
        sums = tl.dot(weights.to(values.dtype), values, sums * fade[:, None], input_precision="ieee")
        total = total * fade + tl.sum(weights, 1)
        most = now
    partial += tl.cast(tl.program_id(0), tl.int64) * (ROWS * (WIDE + 2))
    tl.store(partial + head[:, None] * WIDE + deep[None, :], sums)
    tl.store(partial + ROWS * WIDE + head, most)
    tl.store(partial + ROWS * (WIDE + 1) + head, total)


@triton.jit
def merge(
    partial,
    out,
    parts,
    HEADS: tl.constexpr,
    ROWS: tl.constexpr,
    D: tl.constexpr,
    WIDE: tl.constexpr,
    PARTS: tl.constexpr,
):
    """The answer of a head, from all parts of its group. One that looked at nothing answers 0."""
    row = tl.program_id(0)
    head, deep, part = row % HEADS, tl.arange(0, WIDE), tl.arange(0, PARTS)
    real = part < parts
    at = partial + (tl.cast(row // HEADS, tl.int64) * parts + part) * (ROWS * (WIDE + 2))
    most = tl.load(at + ROWS * WIDE + head, mask=real, other=LOWEST)
    totals = tl.load(at + ROWS * (WIDE + 1) + head, mask=real, other=0.0)
    sums = tl.load(at[:, None] + (head * WIDE + deep)[None, :], mask=real[:, None], other=0.0)
    share = tl.exp2(most - tl.max(most, 0))
    total = tl.sum(totals * share, 0)
    answer = tl.sum(sums * share[:, None], 0) / tl.where(total == 0, 1.0, total)
    tl.store(out + row * D + deep, answer.to(out.dtype.element_ty), mask=deep < D)


@dataclass(frozen=True)
class Lists:
    """Of each group, the pages that some head of it looks at, in rows of `pages`; and how many."""

    marks: Tensor
    listed: Tensor
    bits: Tensor
    counts: Tensor

    @classmethod
    def empty(cls, rows: int, groups: int, pages: int, on: Tensor) -> "Lists":
        listed, bits = (on.new_empty(groups, pages, dtype=torch.int32) for _ in range(2))
        marks = on.new_zeros(rows, pages, dtype=torch.int8)
        return cls(marks, listed, bits, on.new_empty(groups, dtype=torch.int32))

    def fill(self, a: Sparse) -> None:
        """From a mask [rows, pages]."""
        rows, pages = self.marks.shape
        mark[(rows,)](a.starts, a.columns, self.marks, pages, SIZE=MARKED)
        groups = len(self.counts)
        unite[(groups,)](
            *(self.marks, self.listed, self.bits, self.counts, pages), HEADS=rows // groups, SIZE=LISTED
        )

    @property
    def held(self) -> tuple[Tensor, ...]:
        return self.marks, self.listed, self.bits, self.counts


def prepare(a: Sparse | None, k: Tensor, v: Tensor, q: Tensor) -> Prepared:
    """Attention of q to the pages that a stores, or those chosen in each call; without a, to all."""
    n, h, d = q.shape
    out, wide = torch.empty_like(q), max(LEAST, triton.next_power_of_2(d))
    room: dict[tuple[int, int], Lists] = {}  # by groups and pages: a selection may have others than the case
    partial = q.new_empty(0, dtype=torch.float32)

    def cache(found: Sparse | None) -> tuple[Tensor, Tensor, Tensor | None]:
        if not isinstance(found, Selection):
            return k, v, None
        return (k if found.k is None else found.k), (v if found.v is None else found.v), found.bias

    def look(found: Sparse) -> Lists:
        groups = n * cache(found)[0].shape[1]
        at = groups, found.shape[1]
        if at not in room:
            room[at] = Lists.empty(n * h, *at, q)
        room[at].fill(found)
        return room[at]

    def launch(way: Way, lists: Lists | None, found: Sparse | None, q: Tensor) -> None:
        nonlocal partial
        keys, values, bias = cache(found)
        groups, there = n * keys.shape[1], keys.shape[2]
        pages = found.shape[1] if found is not None else 1
        heads, rows = n * h // groups, max(LEAST, triton.next_power_of_2(n * h // groups))
        step, each = way.tile
        parts = max(1, min(each * processors(q) // groups, -(-there // step), PARTS))
        if len(partial) < groups * parts * rows * (wide + 2):
            partial = q.new_empty(groups * parts * rows * (wide + 2), dtype=torch.float32)
        sizes = {"HEADS": heads, "ROWS": rows, "D": d, "WIDE": wide}
        attend[(groups * parts,)](
            *((lists.listed, lists.bits, lists.counts) if lists else (None, None, None)),
            *(q, keys, values, bias, partial, there, pages, parts, sqrt(d)),
            **sizes,
            PAGE=there // pages,
            TOKENS=step,
            num_warps=way.warps,
            num_stages=way.stages + (LOOKED_UP if lists else 0),
        )
        merge[(n * h,)](partial, out, parts, **sizes, PARTS=triton.next_power_of_2(parts))

    own = look(a) if a is not None else None
    key = ("decode", q.dtype, q.shape, cache(a)[0].shape, None if a is None else (a.shape, a.nonzeros))
    way = quickest(key, WAYS[q.element_size()], lambda one: launch(one, own, a, q), q)
    step, last = way.tile[0], (a, own)

    def run(q: Tensor, found: Sparse | None = None) -> Tensor:
        nonlocal last
        last = (a, own) if found is None else (found, look(found))
        launch(way, last[1], last[0], q)
        return out

    def tokens() -> Tensor:
        """That each group looked at in the last call."""
        found, lists = last
        keys = cache(found)[0]
        if found is None or lists is None:
            return torch.full((n * keys.shape[1],), keys.shape[2])
        return lists.counts.cpu() * (keys.shape[2] // found.shape[1])

    def executed() -> int:
        looked = tokens()
        rows = max(LEAST, triton.next_power_of_2(n * h // len(looked)))
        return 4 * rows * wide * int((-(-looked // step)).sum()) * step

    index = () if a is None or own is None else (a.starts, a.columns, *own.held)
    return Prepared(
        run,
        executed=executed,
        values=lambda: int(tokens().sum()) * 2 * d * k.itemsize,
        metadata=sum(one.nbytes for one in index),
        holds=(k, v, *index, partial, out),
        note={"way": way},
    )
