"""R-Sparse: the largest channels as they are, and for all others the weight's main directions.

Both are read out of one budget of bytes, so what the directions cost, channels pay for. Bad at: weights of
full rank, whose directions say little of the rest.
"""

from dataclasses import replace
from math import ceil

import torch

from suite.activations import best, budget
from suite.selector import Keeping, selector

SHARE = 0.25  # of the bytes that may be read, for directions; of those left out, if they are fewer
SPARE = 8  # directions more, so that those which stay are found well


def factors(w, rank):
    """w as nearly as a product of [m, rank] and [rank, k] can be, in its dtype: the same in every call.

    Halko, Martinsson and Tropp, "Finding Structure with Randomness", SIAM Review 2011.
    """
    wide = w.float()
    probes = torch.randn(w.shape[1], min(rank + SPARE, *w.shape), generator=torch.Generator().manual_seed(0))
    basis = torch.linalg.qr(wide @ probes.to(w.device)).Q
    basis = torch.linalg.qr(wide @ (wide.t() @ basis)).Q
    seen = basis.t() @ wide
    main = torch.linalg.eigh(seen @ seen.t()).eigenvectors.flip(1)[:, :rank]
    return (basis @ main).to(w.dtype).contiguous(), (main.t() @ seen).to(w.dtype).contiguous()


def divided(case):
    """Channels that are kept, and a rank, for the bytes of the budget's channels."""
    m, k, keep = case["m"], case["k"], budget(case)
    rank = int(SHARE * min(keep, k - keep) * m / (m + k))
    return keep - ceil(rank * (m + k) / m), rank


@selector(ops=("actmm",), ids=("r-sparse",))
def r_sparse(case, w):
    """The largest channels, and a product of low rank for all others, of as many bytes together (R-Sparse).

    Zhang et al., "R-Sparse: Rank-Aware Activation Sparsity for Efficient LLM Inference", ICLR 2025.
    """
    keep, rank = divided(case)
    left, right = factors(w, rank)
    flops, read = 2 * case["n"] * (left.numel() + right.numel()), left.nbytes + right.nbytes

    def select(x):
        found = best(x, x.abs(), keep)
        return replace(found, beside=left @ (right @ (x - found.values)), flops=flops, read=read)

    return Keeping(select, (left, right))
