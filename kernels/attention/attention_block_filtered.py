"""Blocks in C++, and of those the values that matter: the second filter of SpargeAttn, within the softmax.

What a mask keeps is scored. A chunk of keys of which no score comes near the highest so far, for any query of
a panel, is then left: no weight of it is computed, no value multiplied. How near counts follows from what
that may cost: with n keys left out, each weighing e^least at most beside the highest, an answer changes by
2 n e^least of the largest value at most, and least is such that this is one rounding of the operands' type.
The first filter is what chose the mask: with sparge.py's this is the method of Zhang et al. 2025.

Its FLOPs are stated as if nothing had been passed over; which share was, the note says. Bad at: scores within
some fifteen of the highest, of which nothing is passed over, and what is compared comes on top.
"""

from dataclasses import replace
from math import log, sqrt

import torch

from suite import native
from suite.kernel import kernel
from suite.kernels.attention import attention_block
from suite.kernels.attention.attention_block import DTYPES, SOURCE, Plan, refuse

FLAG = "-DPASSES_OVER"


def least_that_counts(n, dtype):
    """How far from the highest, after scaling: n weights below that are a rounding together, and no more."""
    return log(torch.finfo(dtype).eps / 2 / (2 * n))


def prepare(library, a, q, k, causal, least=None):
    """As attention_block; least: -inf passes over nothing."""
    passed = torch.zeros(1, dtype=torch.int64)
    least = least_that_counts(q.shape[1], q.dtype) if least is None else least
    plan = Plan(least=least * sqrt(q.shape[-1]), passed=passed.data_ptr())
    made = attention_block.prepare(library, a, q, k, causal, plan)
    pairs, note = len(q) * q.shape[1] ** 2, dict(made.note)

    def run(*live):
        passed.zero_()
        answer = made.run(*live)
        note["passed"] = f"{int(passed) / pairs:.3g}"
        return answer

    return replace(made, run=run, holds=(*made.holds, passed), note=note)


@kernel(
    op="attention",
    on="cpu",
    dtypes=DTYPES,
    refuse=refuse,
    chooses=True,
    ids=("spargeattn",),
    extents=("full",),
)
def attention_block_filtered(a, q, k, v):
    """Flash attention over the blocks a mask keeps, without the values that weigh nothing, in C++."""
    return prepare(native.load(SOURCE, FLAG), a, q, k, causal=False)
