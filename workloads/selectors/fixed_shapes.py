"""Fixed shapes: each head has one of four, settled beforehand; a call looks at nothing.

Diagonal: the nearest blocks. Vertical: columns of blocks that all queries see. Multi-diagonal: blocks at some
distances, before or after. Skip: no more than each row's own block, for heads whose answer hardly matters.
Which shape a head has, and how much of it, comes from samples: input of the same kind under other seeds. From
one come columns and distances; on another a table is made of each head's error under each shape at each cost,
in pairs of blocks. Of all ways to spend the layer's budget the one is taken whose errors add up to least.
Chen et al., "Sparse-vDiT: Unleashing the Power of Sparse Attention to Accelerate Video Diffusion
Transformers", 2025.

Bad at: what stands elsewhere in every input.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from math import sqrt

import torch
from torch import Tensor

from suite.case import Case
from suite.ops.attention import drawn, without_mask
from suite.selection import Selection, by_layer, is_causal, of_layer, permitted, room
from suite.selector import selector

SHAPES = ("diagonal", "vertical", "multi_diagonal")  # simple ones first
SLACK = 0.005  # of the most a head may err, on average: a simpler shape may be worse by so much
STEPS = 32  # of a head's cost, from one block a row to all
ROWS = 32  # query blocks of a sample that are looked at, at most
ELSEWHERE = 1 << 20, 1 << 21  # added to a seed: no input is both learned from and measured


@dataclass(frozen=True, eq=False)
class Plan:
    """Of each head: its shape, how many pairs of blocks it keeps, and which of them come first, from 0."""

    shapes: tuple[str, ...]
    pairs: Tensor  # [heads]
    ranks: Tensor  # [heads, query blocks, key blocks]


@selector(ops=("attention", "attention_causal"), ids=("sparse-vdit",))
def fixed_shapes(case):
    """A diagonal, several, columns or nothing: one shape a head, settled on samples."""
    on = cache(kept(planned(case), case).to)  # a copy for each device

    def select(q, k, v):
        return on(q.device)

    return select


def kept(plan: Plan, case: Case) -> Selection:
    """What a plan keeps, to the block: what rounding to steps leaves over goes to all heads alike."""
    return by_layer(plan.pairs[:, None, None] - plan.ranks, case)


@lru_cache(maxsize=8)
def planned(case: Case, shapes: tuple[str, ...] = SHAPES) -> Plan:
    """The best plan of these shapes within the budget of a case, on samples."""
    errors, ranks = table(without_mask(case), shapes)
    good = errors.amin(1, keepdim=True) + SLACK * errors.amax((1, 2)).mean()
    shape = (errors <= good).int().argmax(1)
    costs = steps(case)
    across, span = int(costs[0]), int(costs[-1] - costs[0])
    units = (of_layer(case) - len(errors) * across) * STEPS // span if span else 0
    spent = shared_out(errors.gather(1, shape[:, None])[:, 0], units)
    heads = torch.arange(len(errors))
    shape = shape[heads, spent]
    skipped = (spent == 0) & (shape == 0)
    names = ("skip" if skip else shapes[at] for skip, at in zip(skipped, shape.tolist(), strict=True))
    return Plan(tuple(names), costs[spent], ranks[heads, shape])


def steps(case: Case) -> Tensor:
    """Pairs that a head keeps at each step of its cost, int64 [STEPS + 1]."""
    there = room(case)
    return len(there) + (there.sum() - len(there)) * torch.arange(STEPS + 1) // STEPS


def shared_out(errors: Tensor, units: int) -> Tensor:
    """How many units each head gets so that errors[head, units] add up to least: int64 [heads].

    The best of all ways, head after head, for each number of units spent so far.
    """
    heads, most = len(errors), errors.shape[1] - 1
    best = torch.full((units + 1,), torch.inf)
    best[0] = 0.0
    taken = torch.zeros(heads, units + 1, dtype=torch.long)
    for head in range(heads):
        before = torch.nn.functional.pad(best, (most, 0), value=torch.inf).unfold(0, most + 1, 1).flip(-1)
        best, taken[head] = (before + errors[head]).min(-1)
    spent = torch.zeros(heads, dtype=torch.long)
    left = units
    for head in reversed(range(heads)):
        spent[head] = taken[head, left]
        left -= int(spent[head])
    return spent


@lru_cache(maxsize=4)
def table(case: Case, shapes: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Errors by absolute values [heads, shapes, STEPS + 1], and ranks [heads, shapes, ...].

    Of a case without its budget.
    """
    costs, errors, ranks = steps(case), [], []
    drawn_from, tried_on = (sample(case, number) for number in range(2))
    for (rows, looked, _), (_, weights, values) in zip(drawn_from, tried_on, strict=True):
        mass = looked.sum((1, 3))
        order = torch.stack([ranked(DRAW[shape](case, rows, mass), case) for shape in shapes])
        ranks.append(order)
        totals = weights.sum(-1).mT.contiguous()  # [rows, key blocks, b]
        parts = (weights.transpose(1, 2) @ values).flatten(2)  # [rows, key blocks, b d]
        whole = parts.sum(1, keepdim=True)
        for one in order[:, rows]:
            seen = (one[:, None] < costs[:, None]).float()  # [rows, steps, key blocks]
            over = (seen @ totals).clamp_(min=torch.finfo(torch.float32).tiny)
            found = (seen @ parts).view(*over.shape, -1).div_(over[..., None]).flatten(2)
            errors.append(found.sub_(whole).abs_().sum((0, 2)))
    return torch.stack(errors).view(len(ranks), len(shapes), -1), torch.stack(ranks)


def sample(case: Case, number: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Attention in full on other input of the kind, head after head.

    (query blocks looked at, their weights float32 [rows, b, key blocks, b], values [key blocks, b, d])
    """
    heads, n, d, b = (case[name] for name in "hndb")
    across = n // b
    q, k, v = (one.float() for one in drawn(replace(case, seed=case.seed + ELSEWHERE[number])))
    rows = torch.linspace(0, across - 1, min(across, ROWS)).round().long()
    queries = (rows[:, None] * b + torch.arange(b)).flatten()
    later = torch.arange(n) > queries[:, None]
    for head in range(heads):
        group = head * len(k) // heads
        scores = q[head, queries] @ k[group].T / sqrt(d)
        if is_causal(case):
            scores.masked_fill_(later, -torch.inf)
        yield rows, scores.softmax(-1).view(len(rows), b, across, b), v[group].view(across, b, d)


def ranked(scores: Tensor, case: Case) -> Tensor:
    """In which order the pairs of a head are kept, from 0, what must stay first: int64, as scores are."""
    order = permitted(scores[None], case).flatten().sort(descending=True, stable=True).indices
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order))).view(scores.shape)


def diagonal(case: Case, rows: Tensor, mass: Tensor) -> Tensor:
    """The nearer the better."""
    at = torch.arange(mass.shape[1])
    return -(at[:, None] - at).abs().float()


def vertical(case: Case, rows: Tensor, mass: Tensor) -> Tensor:
    """Columns, by the weight that queries which see them give them."""
    seen = (room(case)[rows, None] > torch.arange(mass.shape[1])).sum(0)
    return (mass.sum(0) / seen).expand(mass.shape[1], -1)


def multi_diagonal(case: Case, rows: Tensor, mass: Tensor) -> Tensor:
    """Distances, by the weight that queries give what is so far away."""
    across = mass.shape[1]
    at = torch.arange(across)
    away = at - rows[:, None] + across
    seen = (room(case)[rows, None] > at).float()
    found, among = torch.zeros(2, 2 * across)
    found.index_add_(0, away.flatten(), mass.flatten())
    among.index_add_(0, away.flatten(), seen.flatten())
    return (found / among.clamp(min=1))[at - at[:, None] + across]


DRAW = {draw.__name__: draw for draw in (diagonal, vertical, multi_diagonal)}
