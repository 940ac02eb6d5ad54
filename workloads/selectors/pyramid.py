"""Pyramid: what matters less is seen in less detail, before it is not seen at all.

Neighbouring keys become one, their mean, and two of those one again, which stands for 2 or 4 tokens by a bias
of ln 2 or ln 4 in the softmax; values likewise. A block of means is as long as any, and covers 2 or 4 blocks.

What blocks weigh, and what their means leave of it, is estimated with means of a few queries. Four neighbours
may cost a row from none to four blocks: as one of means, as two, some in full, some not at all. Of each cost
the best way is known, and the budget goes where another block wins most. All of it is attention in full.

Bad at: keys unlike their neighbours, whose mean is none of them; selecting cheaply: half the keys are scored.
"""

from math import log, sqrt

import torch
from torch.nn.functional import pad

from suite.selection import by_row, from_map, is_causal
from suite.selector import selector

LEVELS = 2  # of means: of 2 tokens, of 4
WIDEST = 2**LEVELS  # blocks that may be seen as one
ASKED = 4  # parts of a block of queries, each asked by its mean
RUNS = 2  # of keys, as long as a mean is wide: of so many one is scored
MISSED = 2.0  # what means leave of a weight falls to other keys, where it is wrong too
NEVER = -1e3  # is less than anything that can be won
LATER, LEAST = 1e-3, 1e-30  # of what one block wins, and no less than this, another wins less


def halved(one):
    """Means of neighbouring tokens; an odd one at the end is left out."""
    even = one.shape[1] // 2 * 2
    return (one[:, 0:even:2] + one[:, 1:even:2]) / 2


def combined(won, halves):
    """What blocks win at best at each cost, what of it their first halves cost, and who is best seen as one.

    won: [.., blocks] if seen as one; halves: [.., twice the blocks, costs] if not.
    """
    first, second = halves[..., 0::2, :], halves[..., 1::2, :]
    most = halves.shape[-1] - 1
    best, share = [], []
    for cost in range(2 * most + 1):
        shares = range(max(0, cost - most), min(cost, most) + 1)
        value, at = torch.stack([first[..., one] + second[..., cost - one] for one in shares], -1).max(-1)
        best.append(value)
        share.append(at + shares[0])
    alone = won > best[1]
    best[1] = torch.maximum(best[1], won)
    return torch.stack(best, -1), torch.stack(share, -1), alone


def steps(best):
    """What each further block wins, always less than the one before: [.., costs] to [.., costs - 1].

    One that wins little by itself, and the next one much, counts as their mean.
    """
    most, found = best.shape[-1] - 1, []
    for cost in range(most):
        ways = [(best[..., to] - best[..., cost]) / (to - cost) for to in range(cost + 1, most + 1)]
        won = torch.stack(ways, -1).amax(-1)
        if found:
            before = found[-1]
            won = torch.minimum(won, before - LATER * before.abs() - LEAST)
        found.append(won)
    return torch.stack(found, -1)


def spent(cost, ways):
    """Which blocks of each level are seen, where [h, rows, widest blocks] cost so much: level after level."""
    kept = []
    for share, alone in reversed(ways):
        one = alone & (cost == 1)
        kept.append(one)
        first = share.gather(-1, cost[..., None])[..., 0]
        cost = torch.stack((first, cost - first), -1).masked_fill(one[..., None], 0).flatten(-2)
    return [cost.bool(), *reversed(kept)]


@selector(ops=("attention", "attention_causal"), ids=("psa",))
def pyramid(case):
    """Blocks in full, as means of 2 or of 4 tokens, or not at all."""
    heads, groups, n, d, b = (case[name] for name in "hgndb")
    across, causal = n // b, is_causal(case)
    blocks = [across >> level for level in range(LEVELS + 1)]  # of each level; whole ones alone
    room = [-(-across // WIDEST) * WIDEST >> level for level in range(LEVELS + 1)]
    rows = torch.arange(across)
    reach = (rows if causal else torch.full_like(rows, across))[:, None]
    later = rows > reach
    seen = [torch.arange(1, each + 1) << level <= reach for level, each in enumerate(room)]
    bias = torch.cat([torch.full((groups, each * b), level * log(2)) for level, each in enumerate(blocks)], 1)
    tokens = torch.full_like(bias, -1, dtype=torch.int64)
    tokens[:, :n] = torch.arange(n)
    products = heads * across * ASKED * sum(blocks) * b // RUNS * d
    flops = 2 * products + heads * n * d + 4 * groups * n * d

    def detailed(one):
        """Tokens and their means, level after level."""
        found = [one]
        for _ in range(LEVELS):
            found.append(halved(found[-1]))
        return torch.cat([each[:, : m * b] for each, m in zip(found, blocks, strict=True)], 1)

    def weights(q, keys):
        """The share of its weight that a row gets right by a block of each level: [h, rows, blocks]s."""
        queries = q.view(heads, across * ASKED, -1, d).mean(2) / sqrt(d)
        scored = []
        for level, one in enumerate(keys.split([m * b for m in blocks], 1)):
            run = WIDEST >> level
            scored.append(one.unflatten(1, (-1, RUNS * run))[:, :, :run].flatten(1, 2))
        scored = torch.cat(scored, 1).repeat_interleave(heads // groups, 0)
        scores = (queries @ scored.mT).float()
        scores -= scores[..., : n // RUNS].amax(-1, keepdim=True)
        sums = scores.exp_().view(heads, across, ASKED, -1, b // RUNS).sum(-1)
        exact = sums[..., :across].masked_fill(later.to(q.device)[:, None], 0.0)
        sums = (sums / exact.sum(-1, keepdim=True).clamp_min(LEAST)).sum(2)
        exact, *coarse = sums.split(blocks, -1)
        found = [exact]
        for level, one in enumerate(coarse, 1):
            held = exact[..., : blocks[level] << level].unflatten(-1, (-1, 2**level)).sum(-1)
            found.append(held - MISSED * (held - one * 2**level).abs())
        return [pad(one, (0, m - one.shape[-1])) for one, m in zip(found, room, strict=True)]

    def select(q, k, v):
        keys, may = detailed(k), [one.to(q.device) for one in seen]
        won = [one.masked_fill(~each, NEVER) for one, each in zip(weights(q, keys), may, strict=True)]
        best, ways = torch.stack((torch.zeros_like(won[0]), won[0]), -1), []
        for each in won[1:]:
            best, *way = combined(each, best)
            ways.append(way)
        found = by_row(steps(best).flatten(-2)[..., :across], case)
        taken = found.rows_dense(0, heads * across).bool().view(heads, across, across)
        if causal:
            taken.diagonal(dim1=1, dim2=2).fill_(False)
        cost = pad(taken, (0, room[0] - across)).unflatten(-1, (-1, WIDEST)).sum(-1)
        kept = [one[..., :m] for one, m in zip(spent(cost, ways), blocks, strict=True)]
        if causal:
            kept[0].diagonal(dim1=1, dim2=2).fill_(True)
        return from_map(
            torch.cat(kept, -1),
            case.pattern,
            k=keys,
            v=detailed(v),
            bias=bias.to(q.device),
            tokens=tokens.to(q.device),
            flops=flops,
        )

    return select
