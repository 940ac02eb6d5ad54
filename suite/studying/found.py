"""Found: the pattern in which the zeros of given weights stand, where no one says which was meant."""

from torch import Tensor

from suite.pattern import Pattern
from suite.patterns.n_of_m import NofM
from suite.patterns.unstructured import Unstructured
from suite.studying.masks import padded

GROUPS = (4, 8, 16, 32)  # of N:M; the smallest that fits
FULL = 0.9  # of the N places in each group, those that hold a weight; chance leaves more of them empty


def found(mask: Tensor) -> Pattern:
    """The pattern of a mask, bool[m, k]: N:M if no group holds more, else as many zeros anywhere."""
    kept = int(mask.sum())
    for m in GROUPS:
        groups = padded(mask, 1, m, False).view(len(mask), -1, m).sum(2)
        n = int(groups.max())
        if 0 < n < m and kept >= FULL * n * groups.numel():
            return NofM(n, m)
    return Unstructured(1 - kept / mask.numel())
