"""Activations: which of them may count as zero, and what that leaves of a batch.

`actmm` takes a cut for each neuron: an activation counts where its magnitude reaches it. The rules here find
cuts from a sample of activations, [tokens, neurons] in all of them, and measure what they leave.

    even_cuts       one for all neurons: TEAL, and on what the activation function gives, CATS
    weighed_cuts    one a neuron, lower where its weights are large: CHESS
    best            so many of each token by the same weighing, no cut at all: WINA
    mode            what to subtract first, where activations crowd around another number than 0: SCAP

Liu et al., "Training-Free Activation Sparsity in Large Language Models", ICLR 2025; Lee et al., "CATS", COLM
2024; He et al., "CHESS", EMNLP 2024; Chen et al., "WINA", 2025; Chua et al., "Post-Training Statistical
Calibration for Higher Activation Sparsity", ENLSP 2024.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from suite.pattern import rounded


def even_cuts(sample: Tensor, sparsity: float) -> Tensor:
    """[neurons], all the same: this share of the sample stays below, to one activation."""
    return weighed_cuts(sample, sample.new_ones(sample.shape[1]), sparsity)


def weighed_cuts(sample: Tensor, norms: Tensor, sparsity: float) -> Tensor:
    """[neurons]: of |x| times the norm of the neuron's weights, this share of the sample stays below.

    With weights of unlike neurons uncorrelated, no other cuts of that share have a smaller error.
    """
    weighed = (sample.abs() * norms).flatten().sort().values
    edges = torch.cat((weighed.new_zeros(1), weighed[1:], weighed.new_full((1,), torch.inf)))
    return edges[len(weighed) - rounded(sparsity, len(weighed))] / norms


def best(x: Tensor, norms: Tensor, keep: int) -> Tensor:
    """Which activations count, [tokens, neurons]: `keep` of each token, the largest |x| times norm."""
    chosen = (x.abs() * norms).topk(keep, dim=1).indices
    return torch.zeros_like(x, dtype=torch.bool).scatter_(1, chosen, True)


def mode(sample: Tensor) -> Tensor:
    """Where numbers crowd: the half of them that is closest together, of that the closest half, and so on.

    Bickel and Fruehwirth, "On a Fast, Robust Estimator of the Mode", CSDA 2006.
    """
    crowd = sample.flatten().sort().values
    while len(crowd) > 2:
        half = (len(crowd) + 1) // 2
        first = int((crowd[half - 1 :] - crowd[: len(crowd) - half + 1]).argmin())
        crowd = crowd[first : first + half]
    return crowd.mean()


def centred(x: Tensor, w: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """x less its centre, a number or [neurons], and the bias that makes up for it: [outputs] of w."""
    return x - centre, w @ centre.expand(w.shape[1])


def shared_out(
    errors: Sequence[Callable[[float], float]], weights: Sequence[int], sparsity: float, steps: int = 100
) -> list[float]:
    """A sparsity for each layer, together `sparsity` of all their weights, to a step: greedily, as in TEAL.

    errors: of each layer, what a sparsity costs. Every step saves as many weights, where that costs least.
    """
    unit = sparsity * sum(weights) / steps
    shares = [0.0] * len(weights)
    for _ in range(steps):
        after = [share + unit / own for share, own in zip(shares, weights, strict=True)]
        room = [at for at, share in enumerate(after) if share <= 1 + 1e-9]
        if room:
            at = min(room, key=lambda at: errors[at](min(after[at], 1.0)) - errors[at](shares[at]))
            shares[at] = min(after[at], 1.0)
    return shares


def nonzero_share(x: Tensor) -> Tensor:
    """Of each token, the share of activations that are not zero: [tokens], float64."""
    return (x != 0).double().mean(1)


def union_share(counting: Tensor) -> float:
    """The share of neurons that count for some token of a batch, [tokens, neurons]."""
    return float(counting.any(0).double().mean())


def union_law(keep: float, tokens: int) -> float:
    """What `union_share` is on average if tokens choose independently and all neurons are alike."""
    return 1 - (1 - keep) ** tokens


def reuse(counting: Tensor) -> float:
    """Of the neurons that count for a token, the share that did so for the one before."""
    now, before = counting[1:], counting[:-1]
    return float((now & before).sum()) / max(1, int(now.sum()))


def affordable(quality: Callable[[float], float], rise: float, within: float = 1e-3) -> float:
    """The highest sparsity at which a quality, lower is better, is at most `rise` above that of the dense.

    By bisection, for one that does not fall as sparsity grows. With perplexity it is the PPL-p% sparsity of
    Luo et al., "Sparsing Law", 2024.
    """
    most = quality(0.0) * (1 + rise)
    if quality(1.0) <= most:
        return 1.0
    low, high = 0.0, 1.0
    while high - low > within:
        middle = (low + high) / 2
        low, high = (middle, high) if quality(middle) <= most else (low, middle)
    return low
