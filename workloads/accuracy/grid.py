"""The patterns that models are pruned to, the most telling first; fewer where training takes long."""

from suite.patterns.block import Block
from suite.patterns.n_of_m import NofM
from suite.patterns.patch import Patch
from suite.patterns.unstructured import Unstructured

SPARSITIES = (0.9, 0.5, 0.8, 0.95, 0.7, 0.98)
MORE = (0.3, 0.75, 0.85, 0.99)


def grid(extent, trained):
    """Unstructured, N:M and blocks."""
    if extent == "smoke":
        return [Unstructured(0.9), NofM(2, 4)]
    chosen = [*map(Unstructured, SPARSITIES), NofM(2, 4), NofM(1, 8), Block(4, 4, 0.8)]
    if extent == "full":
        chosen += [*map(Unstructured, MORE), NofM(1, 4), NofM(2, 8), NofM(1, 16)]
        chosen += [Block(4, 4, 0.5), Block(4, 4, 0.9), Block(1, 16, 0.5)]
        chosen += [Patch(16, 16, 0.5), Patch(16, 16, 0.75)]
    return chosen


def middle(extent, trained):
    """For models that take a second to train."""
    few = {"smoke": [], "default": [Unstructured(0.9), Unstructured(0.8), NofM(2, 4), NofM(1, 8)]}
    return few[extent] if trained and extent in few else grid(extent, trained)


def coarse(extent, trained):
    """For models that take longer."""
    few = {"smoke": [], "default": [Unstructured(0.8), NofM(1, 8)]}
    return few[extent] if trained and extent in few else grid(extent, trained)
