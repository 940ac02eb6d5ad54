"""Pixelfly: each weight as a flat block butterfly and a part of low rank, trained from the start.

Dao et al., "Pixelated Butterfly: Simple and Efficient Sparse Training for Neural Network Models", ICLR 2022.
The mask is fixed and needs no search. Of what is to be kept at most three quarters are blocks, as large as
the layer's sides allow; the rest is the rank. Its control has as many blocks of the same size anywhere.
"""

from math import gcd

import torch

from suite.kernel import Refused
from suite.method import transform
from suite.patterns.butterfly import Butterfly
from suite.patterns.unstructured import Unstructured
from suite.workloads.accuracy.structured import BlockSparse, Sum, replaced, thin

SHARE = 0.75  # of the numbers, in blocks
TASKS = ("digits_mlp", "digits_vit")


@transform(after=("plain",), patterns=(Unstructured,), tasks=TASKS, start="fresh", ids=("pixelfly",))
def pixelfly(problem, pattern):
    """A flat block butterfly and a part of low rank in place of each layer, from the start."""
    return replaced(problem, problem.model(), pattern.sparsity, lambda *one: parts(*one, butterfly))


@transform(
    after=("plain",),
    patterns=(Unstructured,),
    tasks=TASKS,
    start="fresh",
    control=True,
    ids=("pixelfly",),
)
def pixelfly_random(problem, pattern):
    """As many blocks in random places, and the same rank: what a butterfly must beat."""
    return replaced(problem, problem.model(), pattern.sparsity, lambda *one: parts(*one, anywhere))


def parts(layer, density, place):
    """Blocks where `place(pattern, m, k)` has them, and a thin product of what is left."""
    m, k = layer.weight.shape
    pattern = largest(m, k, SHARE * density)
    rows, columns = place(pattern, m, k)
    blocks = BlockSparse(rows, columns, pattern.size, m)
    rank = int((density * m * k - blocks.weight.numel()) / (m + k))
    return Sum([blocks, thin(rank, layer)] if rank else [blocks], layer)


def largest(m, k, density):
    """The butterfly that keeps the most within this density, in the largest of such blocks."""
    sides = [side for side in range(1, gcd(m, k) + 1) if not m % side and not k % side]
    kept = {side: Butterfly(side).count(m, k) for side in sides}
    if fit := [side for side in sides if kept[side] <= density * m * k]:
        return Butterfly(max(fit, key=lambda side: (kept[side], side)))
    raise Refused(f"no flat butterfly of {m} x {k} keeps as little as {density:.0%}")


def butterfly(pattern, m, k):
    """Rows and columns, in blocks."""
    starts, columns = Butterfly(1).positions(m // pattern.size, k // pattern.size, 0)
    rows = torch.repeat_interleave(torch.arange(len(starts) - 1), torch.from_numpy(starts).diff())
    return rows, torch.from_numpy(columns).long()


def anywhere(pattern, m, k):
    """As many, drawn with torch's seed."""
    count, across = pattern.count(m, k) // pattern.size**2, k // pattern.size
    chosen = torch.randperm(m // pattern.size * across)[:count].sort().values
    return chosen // across, chosen % across
