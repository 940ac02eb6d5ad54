"""Vertical and slash lines that the last queries see, drawn through all rows (MInference's).

Bad at: what the last queries do not look at. Whole blocks are kept along a line, so that tokens which all
look at, far apart, cost a column of blocks each.
"""

from math import sqrt

import torch
from torch.nn.functional import pad

from suite.selection import by_head
from suite.selector import selector


@selector(ops=("attention_causal",), ids=("sparse-frontier",))
def vertical_slash(case):
    """Blocks on the best vertical and slash lines, as the last block of queries weighs them (MInference).

    Jiang et al. 2024, without its offline choice of a pattern for each head. A line is a token that all look
    at, or a distance; lines are kept from the heaviest on until the budget is spent.
    """
    heads, n, d, b = (case[name] for name in "hndb")
    across = n // b
    after = torch.zeros(b, n)
    after[:, n - b :].masked_fill_(torch.ones(b, b, dtype=torch.bool).triu(1), -torch.inf)
    back = torch.arange(across)[:, None] - torch.arange(across)

    def select(q, k, v):
        last = q[:, n - b :].reshape(len(k), -1, d)
        scores = torch.add(after.to(q.device), (last @ k.mT).view(heads, b, n), alpha=1 / sqrt(d))
        vertical, slash = lines(scores.softmax(-1))
        columns = vertical.view(heads, 1, across, b).amax(-1)
        diagonals = touched(slash, b)[:, back.clamp(min=0).to(q.device)]
        return by_head(torch.maximum(columns, diagonals), case, flops=2 * heads * b * n * d)

    return select


def lines(weights):
    """Of the last queries' weights [h, b, n]: their sum at each token, and at each distance back, [h, n]."""
    heads, b, n = weights.shape
    vertical = weights.sum(1)
    upwards = pad(weights.flip(1), (0, b)).flatten(1)
    aligned = upwards[:, : b * (n + b - 1)].view(heads, b, n + b - 1).sum(1)  # rows shorter by 1 shift by 1
    return vertical, aligned[:, :n].flip(-1)


def touched(slash, b):
    """What the best distance weighs, so many blocks back, by how much of it is there: [h, n / b]."""
    padded = pad(slash, (b - 1, b - 1)).unfold(-1, 2 * b - 1, b)
    within = 1 - (torch.arange(2 * b - 1, device=slash.device) - (b - 1)).abs() / b
    return (padded * within).amax(-1)
