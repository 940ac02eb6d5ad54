"""attention: softmax(Q K^T / sqrt(d)) V over some pairs of (query block, key block), for each head.

Two ops of one contract: each query sees every key of its blocks, or (causal) those up to itself. There are h
query heads and g heads of keys and values, which h / g query heads share; n tokens; d numbers a head; b
tokens a block. The mask is a matrix of blocks: its rows are the query blocks, head after head, its columns
the key blocks. What it leaves out is no part of the answer, and a query that sees no key answers 0. A causal
mask always has its diagonal.

Dense kernels answer for a mask that leaves out nothing: attention in full is what a sparse one saves.

The mask may be chosen at run time, from q, k and v: a Selection, which may bring other keys and values too.
Its quality: `recall`, the share of attention's weight on tokens that are kept as they are, each query alike;
`error`, the distance from attention in full, by absolute values, over the size of that; `cosine` of the two,
the mean over queries.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from math import sqrt

import numpy as np
import torch
from torch import Tensor

from suite.case import Case
from suite.inputs import INPUTS
from suite.op import Answered, Op, Operands, generator, register
from suite.patterns.unstructured import Unstructured
from suite.registry import pick
from suite.rounding import ROUNDING
from suite.selection import Selection, by_row
from suite.sparse import Sparse, from_positions

SAMPLED = 4  # of what is chosen, one row in so many tells how large eager code's errors get
EXPONENTIAL = 2.0**-22  # the relative error of the PTX instruction ex2.approx, at most


def blocks(case: Case) -> int:
    """Of a sequence."""
    return case["n"] // case["b"]


def shape(case: Case) -> tuple[int, int]:
    """Of the mask, in blocks."""
    return case["h"] * blocks(case), blocks(case)


def rules(case: Case) -> list[str]:
    """Why there are no such heads or blocks."""
    said = []
    if case["n"] % case["b"]:
        said.append(f"n={case['n']} is not in whole blocks of b={case['b']}")
    if case["h"] % case["g"]:
        said.append(f"h={case['h']} heads cannot share g={case['g']} alike")
    return said


def drawn(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    """Q, K and V as the case's data names them; else standard normal: no block is worth more than another."""
    source = generator(case, 1)
    if case.data:
        q, k, v = (case.cast(one) for one in pick("input", case.data, INPUTS).draw(case, source))
        return q, k, v
    heads = (case["h"], case["g"], case["g"])
    q, k, v = (case.cast(torch.randn(each, case["n"], case["d"], generator=source)) for each in heads)
    return q, k, v


def around(case: Case, a: Sparse) -> Operands:
    """The mask as it is."""
    return (blindly(case) if case.pattern.at_run_time else a), *drawn(case)


def blindly(case: Case) -> Sparse:
    """A mask that spends a budget without looking: it stands for those that selectors find."""
    return by_row(torch.rand(case["h"], blocks(case), blocks(case), generator=generator(case, 2)), case)


def around_causal(case: Case, a: Sparse) -> Operands:
    """The mask without what lies after a query's block, and with that block itself."""
    if case.pattern.at_run_time:
        return blindly(case), *drawn(case)
    across = blocks(case)
    rows = np.repeat(np.arange(a.shape[0]), a.row_lengths.numpy())
    columns = a.columns.numpy()
    before = columns < rows % across
    every = np.arange(a.shape[0])
    return masked(
        case,
        np.concatenate((rows[before], every)),
        np.concatenate((columns[before], every % across)),
        a,
    )


def masked(case: Case, rows: np.ndarray, columns: np.ndarray, like: Sparse) -> Operands:
    """A mask of these blocks, with the queries, keys and values of the case."""
    order = np.lexsort((columns, rows))
    starts = np.searchsorted(rows[order], np.arange(like.shape[0] + 1))
    values = torch.ones(len(rows), dtype=like.dtype)
    return from_positions(starts, columns[order], values, like.shape, like.pattern), *drawn(case)


def whole(case: Case, operands: Operands) -> Operands:
    """Every block kept."""
    a, *live = operands
    m, k = a.shape
    full = from_positions(
        np.arange(m + 1) * k, np.tile(np.arange(k), m), torch.ones(m * k, dtype=a.dtype), a.shape, a.pattern
    )
    return full.to(a.values.device), *live


def whole_causal(case: Case, operands: Operands) -> Operands:
    """Every block kept, up to the query's own."""
    a, *live = operands
    full, *_ = whole(case, operands)
    rows = np.repeat(np.arange(a.shape[0]), a.shape[1])
    columns = full.columns.cpu().numpy()
    kept = columns <= rows % a.shape[1]
    starts = np.searchsorted(rows[kept], np.arange(a.shape[0] + 1))
    mask = from_positions(starts, columns[kept], torch.ones(int(kept.sum())), a.shape, a.pattern)
    return mask.to(a.values.device), *live


def attended(
    a: Sparse, q: Tensor, k: Tensor, v: Tensor, causal: bool
) -> Iterator[tuple[int, slice, Tensor, Tensor, Tensor]]:
    """(head, queries, scores, values, who sees what) of each query block that keeps any key.

    scores: float or lower, of the kept keys, in the dtype of q, before the softmax and scaled.
    """
    heads, n, d = q.shape
    size = heads * n // a.shape[0]
    bias = None
    if isinstance(a, Selection):
        k, v = (given if own is None else own.to(given.dtype) for own, given in ((a.k, k), (a.v, v)))
        bias = a.bias
    starts, columns = a.starts.tolist(), a.columns.long()
    inside = torch.arange(size, device=q.device)
    for row in range(a.shape[0]):
        kept = columns[starts[row] : starts[row + 1]]
        if not len(kept):
            continue
        head, block = divmod(row, n // size)
        shared = head * len(k) // heads
        keys = (kept[:, None] * size + inside).flatten()
        queries = slice(block * size, (block + 1) * size)
        scores = q[head, queries] @ k[shared, keys].t() / sqrt(d)
        if bias is not None:
            scores = (scores + bias[shared, keys]).to(q.dtype)
        seen = torch.ones_like(scores, dtype=torch.bool)
        if causal:  # of its own block, a query sees the keys up to itself
            seen = (kept != block).repeat_interleave(size) | (inside.repeat(len(kept)) <= inside[:, None])
        yield head, queries, scores, v[shared, keys], seen


def answer(a: Sparse, q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """In the dtype of the operands, with a rounding after every step, as eager code has it."""
    out = torch.zeros_like(q)
    for head, queries, scores, values, seen in attended(a, q, k, v, causal):
        weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
        out[head, queries] = weights @ values
    return out


def reference(causal: bool) -> Callable[..., Tensor]:
    """In float64, block by block."""

    def exact(a: Sparse, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return answer(a, q.double(), k.double(), v.double(), causal).cpu()

    return exact


def allowed(causal: bool) -> Callable[..., Tensor]:
    """One rounding of the answer, and twice the largest error that eager code of the same dtype makes.

    And what a GPU's own power of two is allowed to be off by, which eager code on the host does not know.
    """

    def most(case: Case, operands: Operands, expected: Tensor) -> Tensor:
        a, q, k, v = (one.to("cpu") for one in operands)
        some = a.thinned(SAMPLED) if isinstance(a, Selection) else None
        eager = answer(some[0] if some else a, q, k, v, causal)
        errors = (eager.double() - expected).abs()
        error = (errors.view(len(some[1]), -1)[some[1]] if some else errors).max()
        power = EXPONENTIAL * v.float().abs().max() + torch.finfo(case.torch_dtype).tiny
        return ROUNDING[case.torch_dtype] * expected.abs() + 2 * error + power

    return most


def twin(operands: Operands, expected: Tensor, allowed: Tensor) -> tuple[Operands, Tensor, Tensor]:
    """All with the numbers of a head reversed, V times -1/2 as well: the scores stay, exactly."""
    a, q, k, v = operands
    live = q.flip(-1), k.flip(-1), (v * -0.5).flip(-1)
    return (a, *live), (expected * -0.5).flip(-1), allowed.flip(-1)


@lru_cache(maxsize=1)
def weights(case: Case) -> Tensor:
    """Of attention in full: what a block's queries, alike, give each token: float32 [h, n / b, n].

    Rows sum to 1. Of a case without its mask, so that what chooses on the same operands shares it.
    """
    q, k, _ = (one.float() for one in drawn(case))
    n, b, across = case["n"], case["b"], blocks(case)
    later = torch.ones(n, n, dtype=torch.bool).triu(1) if case.op == ATTENTION_CAUSAL.name else None
    found = torch.empty(case["h"], across, n)
    for head in range(case["h"]):
        scores = q[head] @ k[head * case["g"] // case["h"]].t() / sqrt(case["d"])
        if later is not None:
            scores.masked_fill_(later, -torch.inf)
        found[head] = scores.softmax(-1).view(across, b, n).mean(1)
    return found


def without_mask(case: Case) -> Case:
    """All cases of these operands are one."""
    return replace(case, pattern=Unstructured(0.0))


def covered(found: Sparse, case: Case) -> Tensor:
    """Which tokens each query block sees as they are: truths [h, n / b, n]."""
    n, b, heads, across = case["n"], case["b"], case["h"], blocks(case)
    rows = torch.repeat_interleave(torch.arange(found.shape[0]), found.row_lengths)
    places = found.columns.long()[:, None] * b + torch.arange(b)
    if isinstance(found, Selection) and found.tokens is not None:
        groups = len(found.tokens)
        tokens = found.tokens[(rows // across * groups // heads)[:, None], places]
    else:
        tokens = places
    seen = torch.zeros(heads * across, n + 1, dtype=torch.bool)
    seen[rows[:, None], tokens] = True  # -1 is one beyond the last
    return seen[:, :n].view(heads, across, n)


def quality(case: Case, chosen: Answered, whole: Answered) -> dict[str, float]:
    """What was lost by choosing."""
    (found, *_), answer = chosen
    full = whole[1]
    recall = (weights(without_mask(case)) * covered(found.to("cpu"), case)).sum(-1).mean()
    cosine = torch.nn.functional.cosine_similarity(answer, full, dim=-1).mean()
    error = (answer - full).abs().sum() / full.abs().sum()
    return {"recall": float(recall), "error": float(error), "cosine": float(cosine)}


def room(case: Case) -> int:
    """Pairs of blocks that a causal mask may have."""
    return case["h"] * blocks(case) * (blocks(case) + 1) // 2


def useful_causal(case: Case, operands: Operands) -> int:
    """Of a diagonal block, half."""
    a, size = operands[0], case["b"]
    diagonal = a.shape[0]
    pairs = (a.nonzeros - diagonal) * size * size + diagonal * size * (size + 1) // 2
    return 4 * case["d"] * pairs


ATTENTION = register(
    Op(
        name="attention",
        operands=("a", "q", "k", "v"),
        live=(1, 2, 3),
        sizes=("h", "g", "n", "d", "b"),
        shape=shape,
        rules=rules,
        around=around,
        whole=whole,
        reference=reference(causal=False),
        allowed=allowed(causal=False),
        twin=twin,
        nominal=lambda case, _: 4 * case["h"] * case["n"] ** 2 * case["d"],
        useful=lambda case, operands: 4 * operands[0].nonzeros * case["b"] ** 2 * case["d"],
        least_values=lambda case, operands: 0,
        live_bytes=lambda case, operands: (
            2 * (case["h"] + case["g"]) * case["n"] * case["d"] * case.torch_dtype.itemsize
        ),
        quality=quality,
        sized=lambda a, q, k, v: (len(q), len(k), *q.shape[1:], q.shape[1] // a.shape[1]),
        about="attention",
    )
)

ATTENTION_CAUSAL = register(
    replace(
        ATTENTION,
        name="attention_causal",
        around=around_causal,
        whole=whole_causal,
        reference=reference(causal=True),
        allowed=allowed(causal=True),
        nominal=lambda case, _: 2 * case["h"] * case["n"] * (case["n"] + 1) * case["d"],
        useful=useful_causal,
        room=room,
        about="causal attention",
    )
)
