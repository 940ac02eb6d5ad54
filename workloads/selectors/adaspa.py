"""AdaSpa: a search for the blocks that weigh most, by the weights of a few queries of each block.

Weights mean the same in all heads, so that heads share one budget: those that look at little leave it to the
others. Diffusion attends to nearly the same again, step after step: a search may serve several steps, and the
logarithm of a query's sum of exponentials (LSE) then saves the next search a pass (`Steps`). Here every call
is a case of its own, and searches from the beginning.

Bad at: queries of a block that want different keys, for few are asked; long sequences, for the search stays a
share of n^2: 1 / 16 of all scores at 64 tokens a block.
"""

from dataclasses import replace
from math import sqrt

import torch

from suite.selection import by_layer, is_causal
from suite.selector import selector

ASKED = 4  # queries of a block


def scores(q, k, b, causal):
    """Of the queries asked with all keys, float32 [h, n / b * ASKED, n]: -inf for keys after a query."""
    heads, n, d = q.shape
    apart = b // ASKED
    asked = torch.arange(apart - 1, n, apart, device=q.device)
    found = (q[:, asked] / sqrt(d) @ k.repeat_interleave(heads // len(k), 0).mT).float()
    if causal:
        found.masked_fill_(torch.arange(n, device=q.device) > asked[:, None], -torch.inf)
    return found


def weighed(found, b, lse=None):
    """What each query gives each block, [h, asked, n / b], and its LSE.

    found: scores, which are lost; lse: of an earlier step, in place of the highest score, which need not be
    looked for then. Weights are exact whatever it is, as long as exponentials of the difference are finite.
    """
    top = found.amax(-1, keepdim=True) if lse is None else lse
    sums = found.sub_(top).exp_().unflatten(-1, (-1, b)).sum(-1)
    total = sums.sum(-1, keepdim=True)
    return sums / total, top + total.log()


class Steps:
    """A selector for steps that follow each other: of each `period` of them, the first one searches."""

    def __init__(self, case, period):
        self.case, self.period = case, period
        self.step, self.lse, self.found = 0, None, None

    def __call__(self, q, k, v):
        if self.step % self.period == 0:
            self.found, self.lse = search(self.case, q, k, self.lse)
        else:
            self.found = replace(self.found, flops=0)
        self.step += 1
        return self.found


def search(case, q, k, lse=None):
    """The blocks of most weight, and the LSE of the queries asked."""
    b = case["b"]
    found = scores(q, k, b, is_causal(case))
    weights, lse = weighed(found, b, lse)
    mass = weights.unflatten(1, (-1, ASKED)).mean(2)
    return by_layer(mass, case, flops=2 * found.numel() * case["d"]), lse


@selector(ops=("attention", "attention_causal"), ids=("adaspa",))
def adaspa(case):
    """The blocks that weigh most for a few queries of each, all heads out of one budget."""
    return lambda q, k, v: search(case, q, k)[0]
