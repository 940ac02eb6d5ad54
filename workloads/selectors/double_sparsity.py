"""Double Sparsity: tokens by approximate scores, from the few channels of K that carry most of each score.

Which channels, a calibration says once, on other text; a label cache keeps these channels of the keys side by
side. A step reads it whole, then the best tokens as they are: t r + 2 k d numbers for each group of heads
that keep the same. Bad at: keys whose channels are all alike, of which any few say little; and pages of many
tokens, which are taken whole for the sake of one.
"""

from dataclasses import replace

import torch

from suite.ops.decode import drawn
from suite.selection import by_query
from suite.selector import Keeping, selector

SHARE = 16  # one channel of so many is a label
SAMPLE, TEXTS = 1024, 4  # tokens of a calibration text, and how many


def heavy(k, q, count):
    """The channels of each group [g, count], ascending, that add most to scores: the mean of |q k|."""
    n, groups, _, d = k.shape
    queries = q.float().abs().view(n, groups, -1, d).mean((0, 2))
    keys = k.float().abs().mean((0, 2))
    return (queries * keys).topk(count, -1).indices.sort(-1).values


def others(case):
    """K, V and q of texts of the same kind that nobody asks about: what a calibration sees."""
    sample = case.with_sizes(n=TEXTS, t=min(SAMPLE, case["t"]), b=1)
    return drawn(replace(sample, seed=case.seed + 1))


def calibrated(case, count):
    """The heavy channels of other texts."""
    k, _, q = others(case)
    return heavy(k, q, count)


@selector(ops=("decode", "decode_offload"), ids=("double-sparsity",))
def double_sparsity(case, k, v, count=None):
    """The best tokens by a few calibrated channels."""
    n, h, g, t, d, b = (case[size] for size in "nhgtdb")
    count = count or max(1, d // SHARE)
    channels = calibrated(case, count).to(k.device)
    at = channels[None, :, None].expand(n, g, t, count)
    labels = k.gather(-1, at).mT.contiguous()  # [n, g, count, t]

    def select(q):
        asked = q.view(n, g, h // g, d).gather(-1, channels[None, :, None].expand(n, g, h // g, count))
        scores = asked @ labels
        if b > 1:
            scores = torch.nn.functional.max_pool1d(scores.float().flatten(1, 2), b)
        told = {"flops": 2 * n * h * t * count, "read": labels.nbytes, "near": labels.nbytes}
        return by_query(scores.view(n, h, -1), case, **told)

    return Keeping(select, (labels, channels))
