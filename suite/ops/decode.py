"""decode: one new query for each head of each sequence, softmax(q K^T / sqrt(d)) V over a long cache.

There are n sequences of t tokens in the cache; h query heads and g heads of keys and values, which h / g
query heads share; d numbers a head; b tokens a page. K, V are [n, g, t, d] and fixed, q is [n, h, d], as is
the answer. The mask says which pages a head looks at: its rows are the query heads, sequence after sequence,
its columns the pages. What it leaves out is no part of the answer; a head that sees nothing answers 0.

Each number of the cache is met once by h / g queries, so reading it is the work: what a kernel states as its
values are the bytes of the pages that some head of a group looks at, and what finding them took to read
(labels, bounds) is metadata.

Dense kernels answer for all pages. The pages may be chosen at run time from q: a Selection, which may bring
other keys and values (gathered, rebuilt), [n, h or g, its tokens, d]. Quality is as in attention, and what
an input that knows the right answers says of them.
"""

from math import sqrt
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from suite import rounding
from suite.case import Case
from suite.inputs import INPUTS
from suite.op import Answered, Op, Operands, generator, register
from suite.registry import pick
from suite.selection import Selection, by_query
from suite.sparse import Sparse, from_positions


def shape(case: Case) -> tuple[int, int]:
    """Of the mask, in pages."""
    return case["n"] * case["h"], case["t"] // case["b"]


def rules(case: Case) -> list[str]:
    """Why there are no such heads or pages."""
    said = shares(case)
    if case["t"] % case["b"]:
        said.append(f"t={case['t']} is not in whole pages of b={case['b']}")
    return said


def shares(case: Case) -> list[str]:
    """Why heads cannot share keys and values."""
    return [f"h={case['h']} heads cannot share g={case['g']} alike"] if case["h"] % case["g"] else []


def drawn(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    """K, V and q as the case's data names them; else standard normal: no token is worth more than another."""
    source = generator(case, 1)
    if case.data:
        k, v, q = (case.cast(one) for one in pick("input", case.data, INPUTS).draw(case, source))
        return k, v, q
    n, h, g, t, d = (case[size] for size in "nhgtd")
    k, v = (case.cast(torch.randn(n, g, t, d, generator=source)) for _ in "kv")
    return k, v, case.cast(torch.randn(n, h, d, generator=source))


def around(case: Case, a: Sparse) -> Operands:
    """The mask as it is; where it is chosen at run time, one that spends the budget without looking."""
    if case.pattern.at_run_time:
        n, h, pages = case["n"], case["h"], case["t"] // case["b"]
        a = by_query(torch.rand(n, h, pages, generator=generator(case, 2)), case)
    return a, *drawn(case)


def whole(case: Case, operands: Operands) -> Operands:
    """Every page kept."""
    a, *rest = operands
    m, k = shape(case)
    columns = torch.arange(k, dtype=torch.int32).repeat(m)
    full = from_positions(
        np.arange(m + 1) * k, columns.numpy(), torch.ones(1).expand(m * k), (m, k), a.pattern
    )
    return full.to(a.values.device), *rest


def answer(a: Sparse, k: Tensor, v: Tensor, q: Tensor) -> Tensor:
    """In the dtype of q, with a rounding after every step, as eager code has it.

    Group by group, over the pages that any head of it keeps.
    """
    n, h, d = q.shape
    b = k.shape[2] // a.shape[1]
    bias = None
    if isinstance(a, Selection):
        k, v, bias = (k if a.k is None else a.k), values_of(a, v), a.bias
        b = k.shape[2] // a.shape[1]
    groups = k.shape[1]
    heads = h // groups
    out = torch.zeros_like(q)
    for sequence in range(n):
        for group in range(groups):
            first = sequence * h + group * heads
            kept = kept_pages(a, first, first + heads)
            pages = kept.any(0).nonzero()[:, 0]
            if not len(pages):
                continue
            keys, values = (paged(one[sequence, group], pages, b).to(q.dtype) for one in (k, v))
            at = slice(group * heads, (group + 1) * heads)
            scores = q[sequence, at] @ keys.t() / sqrt(d)
            if bias is not None:
                scores = (scores + paged(bias[sequence, group, :, None], pages, b)[:, 0]).to(q.dtype)
            seen = kept[:, pages].repeat_interleave(b, 1)
            weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
            out[sequence, at] = weights.nan_to_num(0.0) @ values  # of a head that sees nothing
    return out


def values_of(a: Selection, v: Tensor) -> Tensor:
    """Those it brings; of one that brings keys alone, those of its tokens; else the cache's."""
    if a.v is not None or a.k is None or a.tokens is None:
        return v if a.v is None else a.v
    return v.gather(2, a.tokens[..., None].expand(*a.tokens.shape, v.shape[-1]))


def kept_pages(a: Sparse, first: int, last: int) -> Tensor:
    """Which pages these rows keep: truths [rows, pages]."""
    low, high = int(a.starts[first]), int(a.starts[last])
    kept = torch.zeros(last - first, a.shape[1], dtype=torch.bool, device=a.columns.device)
    rows = torch.repeat_interleave(a.row_lengths[first:last])
    kept[rows, a.columns[low:high].long()] = True
    return kept


def paged(tokens: Tensor, pages: Tensor, b: int) -> Tensor:
    """The tokens [t, ...] of these pages; all of them as they are."""
    if len(pages) * b == len(tokens):
        return tokens
    return tokens.unflatten(0, (-1, b))[pages].flatten(0, 1)


def reference(a: Sparse, k: Tensor, v: Tensor, q: Tensor) -> Tensor:
    """In float64."""
    return answer(a, k, v, q.double()).cpu()


def in_full(k: Tensor, v: Tensor, q: Tensor) -> Tensor:
    """Over all tokens, in the dtype of q."""
    out, heads = torch.zeros_like(q), q.shape[1] // k.shape[1]
    for sequence in range(len(q)):
        for group in range(k.shape[1]):
            at = slice(group * heads, (group + 1) * heads)
            keys, values = (one[sequence, group].to(q.dtype) for one in (k, v))
            scores = q[sequence, at] @ keys.t() / sqrt(q.shape[-1])
            out[sequence, at] = scores.softmax(-1) @ values
    return out


def tolerance(operands: Operands, expected: Tensor) -> Tensor:
    """Of these operands."""
    return tolerance_of(answer(*(one.to("cpu") for one in operands)), expected)


def tolerance_of(eager: Tensor, expected: Tensor) -> Tensor:
    """What a score, a sum of d products, may cost, and twice the largest error of eager code."""
    error = (eager.double() - expected).abs().amax()
    return rounding.of_sums(expected, eager.shape[-1], expected.abs().amax(), eager.dtype) + 2 * error


def twin(operands: Operands, expected: Tensor, allowed: Tensor) -> tuple[Operands, Tensor, Tensor]:
    """Each query with its numbers reversed. The cache stays, so the answer is worked out anew."""
    a, k, v, q = operands
    other = a, k, v, q.flip(-1)
    answered = reference(a, k, v, q.flip(-1))
    return other, answered, tolerance(other, answered)


def distinct(a: Sparse, groups: int, n: int) -> int:
    """Pages that some head of a group looks at, over all groups: what is read, whoever shares it."""
    if a.nonzeros == a.shape[0] * a.shape[1]:
        return n * groups * a.shape[1]
    return int(seen_pages(a, groups, n).sum())


def seen_pages(a: Sparse, groups: int, n: int) -> Tensor:
    """Which pages some head of a group looks at: truths [n * groups, pages]."""
    rows = torch.repeat_interleave(a.row_lengths) // (a.shape[0] // (n * groups))
    seen = torch.zeros(n * groups, a.shape[1], dtype=torch.bool, device=a.columns.device)
    seen[rows, a.columns.long()] = True
    return seen


def bytes_read(a: Sparse, k: Tensor) -> int:
    """Of keys and values, by a call that looks at these pages of k, or of the selection's own."""
    if isinstance(a, Selection) and a.k is not None:
        k = a.k
    n, groups, tokens, d = k.shape
    return distinct(a, groups, n) * (tokens // a.shape[1]) * 2 * d * k.itemsize


_WEIGHTS: WeakKeyDictionary[Sparse, Tensor] = WeakKeyDictionary()


def weights(full: Operands) -> Tensor:
    """Of attention in full, what each head gives each token, float32 [n, h, t]. Kept as long as its mask."""
    a, k, _, q = full
    if a not in _WEIGHTS:
        n, h, d = q.shape
        found = torch.empty(n, h, k.shape[2])
        for sequence in range(n):
            for head in range(h):
                keys = k[sequence, head * k.shape[1] // h].float()
                found[sequence, head] = (keys @ q[sequence, head].float() / sqrt(d)).softmax(-1)
        _WEIGHTS[a] = found
    return _WEIGHTS[a]


def seen_tokens(found: Sparse, t: int, n: int, h: int) -> Tensor:
    """Which of t tokens each head looks at as they are: truths [n, h, t]."""
    if isinstance(found, Selection) and found.tokens is not None:
        tokens = found.tokens.repeat_interleave(h // found.tokens.shape[1], 1).flatten(0, 1)
    else:
        tokens = torch.arange(t).expand(n * h, t)
    kept = kept_pages(found, 0, n * h).repeat_interleave(tokens.shape[1] // found.shape[1], 1)
    seen = torch.zeros(n * h, t + 1, dtype=torch.bool)
    rows, places = kept.nonzero(as_tuple=True)
    seen[rows, tokens[rows, places]] = True  # -1 is one beyond the last
    return seen[:, :t].view(n, h, t)


def recalled(found: Sparse, weight: Tensor) -> Tensor:
    """Of each head's weights [n, h, t], the share on tokens that are kept as they are."""
    n, h, t = weight.shape
    return (weight * seen_tokens(found, t, n, h)).sum(-1)


def quality(case: Case, chosen: Answered, whole: Answered) -> dict[str, float]:
    """What was lost by choosing, and what the case's input makes of the answers."""
    (found, *_), answer = chosen
    full_operands, full = whole
    recall = recalled(found.to("cpu"), weights(full_operands)).mean()
    cosine = torch.nn.functional.cosine_similarity(answer, full, dim=-1).mean()
    error = (answer - full).abs().sum() / full.abs().sum()
    judge = INPUTS[case.data].judge if case.data else None
    judged = judge(case, chosen, whole) if judge else {}
    return {"recall": float(recall), "error": float(error), "cosine": float(cosine), **judged}


def tokens_of(a: Sparse, k: Tensor) -> int:
    """That all heads look at, together."""
    own = a.k if isinstance(a, Selection) and a.k is not None else k
    return a.nonzeros * (own.shape[2] // a.shape[1])


DECODE = register(
    Op(
        name="decode",
        operands=("a", "k", "v", "q"),
        live=(3,),
        sizes=("n", "h", "g", "t", "d", "b"),
        shape=shape,
        rules=rules,
        around=around,
        whole=whole,
        reference=reference,
        allowed=lambda case, operands, expected: tolerance(operands, expected),
        twin=twin,
        nominal=lambda case, _: 4 * case["n"] * case["h"] * case["t"] * case["d"],
        useful=lambda case, operands: 4 * case["d"] * tokens_of(operands[0], operands[1]),
        least_values=lambda case, operands: bytes_read(operands[0], operands[1]),
        live_bytes=lambda case, _: 2 * case["n"] * case["h"] * case["d"] * case.torch_dtype.itemsize,
        quality=quality,
        sized=lambda a, k, v, q: (*q.shape[:2], *k.shape[1:], k.shape[2] // a.shape[1]),
        about="decoding over a cache",
    )
)
