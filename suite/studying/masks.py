"""Masks: the best of a pattern under given scores, and whether one is of its pattern.

`best(pattern, scores)` keeps what the pattern allows with the greatest sum of scores, to exactly the count
that the pattern states. `legal` looks at the mask alone, so that it finds what `best` or a trainer got
wrong. A plug-in's pattern joins with `@best.register` and `@legal.register`.
"""

from dataclasses import replace
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

from suite.kernel import Refused
from suite.pattern import Pattern
from suite.patterns.block import Block
from suite.patterns.fan_in import FanIn
from suite.patterns.n_of_m import NofM
from suite.patterns.patch import HALVED, Patch
from suite.patterns.unstructured import Unstructured


@singledispatch
def best(pattern: Any, scores: Tensor) -> Tensor:
    """The mask, bool[m, k], of this pattern that keeps the greatest sum of scores[m, k]."""
    raise Refused(f"there is no rule by which scores choose a mask of {pattern}")


@singledispatch
def legal(pattern: Any, mask: Tensor) -> bool:
    """Whether a mask, bool[m, k], is one of this pattern with exactly its count."""
    raise Refused(f"there is no rule by which a mask is one of {pattern}")


@best.register
def _(pattern: Unstructured, scores: Tensor) -> Tensor:
    return top(scores.flatten(), pattern.count(*scores.shape)).view_as(scores)


@legal.register
def _(pattern: Unstructured, mask: Tensor) -> bool:
    return int(mask.sum()) == pattern.count(*mask.shape)


@best.register
def _(pattern: FanIn, scores: Tensor) -> Tensor:
    m, k = scores.shape
    return top(scores, pattern.count(m, k) // m)


@legal.register
def _(pattern: FanIn, mask: Tensor) -> bool:
    m, k = mask.shape
    return bool((mask.sum(1) == pattern.count(m, k) // m).all())


@best.register
def _(pattern: NofM, scores: Tensor) -> Tensor:
    m, k = scores.shape
    groups = padded(scores, 1, pattern.m, float("-inf")).view(m, -1, pattern.m)
    return top(groups, pattern.n).view(m, -1)[:, :k]


@legal.register
def _(pattern: NofM, mask: Tensor) -> bool:
    m, k = mask.shape
    kept = padded(mask, 1, pattern.m, False).view(m, -1, pattern.m).sum(2)
    last = kept.new_full((kept.shape[1],), pattern.n)
    if rest := k % pattern.m:
        last[-1] = min(pattern.n, rest)
    return bool((kept == last).all())


@best.register
def _(pattern: Block, scores: Tensor) -> Tensor:
    sums = blocks(pattern, scores)
    kept = torch.zeros_like(sums, dtype=torch.bool)
    for count, rows, columns, _, _ in pattern.shares(*scores.shape):
        part = slice(rows.start, rows.stop), slice(columns.start, columns.stop)
        kept[part] = top(sums[part].flatten(), count).view(len(rows), len(columns))
    return spread(pattern, kept, scores)


@legal.register
def _(pattern: Block, mask: Tensor) -> bool:
    whole = spread(pattern, blocks(pattern, mask.float()) > 0, mask)
    return bool(torch.equal(whole, mask)) and int(mask.sum()) == pattern.count(*mask.shape)


@best.register
def _(pattern: Patch, scores: Tensor) -> Tensor:
    halved = best(HALVED, scores)
    return halved | best(pattern.dense(), scores.masked_fill(halved, 0))


@legal.register
def _(pattern: Patch, mask: Tensor) -> bool:
    m, k = mask.shape
    tiles = pattern.dense()
    dense = spread(tiles, blocks(tiles, (~mask).float()) == 0, mask)
    kept, room = (padded(one, 1, HALVED.m, False).view(m, -1, HALVED.m).sum(2) for one in (mask, mask | True))
    fours = (kept == room.clamp(max=HALVED.n)) | dense[:, :: HALVED.m]
    return bool(fours.all()) and int(mask.sum()) == pattern.count(m, k)


def top(scores: Tensor, count: int) -> Tensor:
    """The greatest `count` along the last dimension, as a mask."""
    kept = scores.topk(count, dim=-1, sorted=False).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, kept, True)


def padded(values: Tensor, dim: int, unit: int, with_: float) -> Tensor:
    """Whole units along a dimension, the last one filled up."""
    if not (short := -values.shape[dim] % unit):
        return values
    shape = list(values.shape)
    shape[dim] = short
    return torch.cat([values, values.new_full(shape, with_)], dim)


def blocks(pattern: Block, values: Tensor) -> Tensor:
    """The sum of each block."""
    whole = padded(padded(values, 0, pattern.rows, 0), 1, pattern.columns, 0)
    down, across = whole.shape[0] // pattern.rows, whole.shape[1] // pattern.columns
    return whole.view(down, pattern.rows, across, pattern.columns).sum((1, 3))


def spread(pattern: Block, kept: Tensor, like: Tensor) -> Tensor:
    """The blocks that are kept as a mask of the whole."""
    m, k = like.shape
    tall = kept.repeat_interleave(pattern.rows, 0)[:m]
    return tall.repeat_interleave(pattern.columns, 1)[:, :k]


def units(pattern: Pattern, m: int, k: int) -> int | None:
    """How many things a pattern keeps or drops singly; None: its share cannot differ from layer to layer."""
    if isinstance(pattern, Unstructured):
        return m * k
    if isinstance(pattern, Block):
        return -(-m // pattern.rows) * -(-k // pattern.columns)
    return None


def at_sparsity(pattern: Pattern, sparsity: float) -> Pattern:
    """The same rule, at another sparsity; a pattern that has none stays as it is."""
    return replace(pattern, sparsity=sparsity) if hasattr(pattern, "sparsity") else pattern  # pyright: ignore
