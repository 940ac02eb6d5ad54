"""Rounded: all weights of the trained model in few bits, in groups along a row: the rivals of sparse groups.

Half of all groups at 4 bits (refiner gqsa) and all of them at 2 bits are 2 bits a weight, and what describes
them on top. Of both the scales are solved for by the error of the layer's output; nothing is left out here,
and nothing trained.
"""

from suite.method import trainer
from suite.patterns.block import Block
from suite.workloads.accuracy.refiners.gqsa import SCALE_BITS, rounded

TERMS = {"patterns": (Block,), "tasks": ("byte_lm",), "extents": ("full",), "ids": ("gqsa",)}


def packed(bits, pattern, mask):
    """Bytes of a layer: codes, and a scale for each group; all groups are there."""
    m, k = mask.shape
    return -(-(bits * m * k + SCALE_BITS * m * -(-k // pattern.columns)) // 8)


@trainer(**TERMS, stored=lambda pattern, mask: packed(2, pattern, mask))
def w2(sparsifier):
    """All weights in 2 bits, in groups as wide as the pattern's blocks."""
    of(sparsifier, 2)


@trainer(**TERMS, stored=lambda pattern, mask: packed(4, pattern, mask))
def w4(sparsifier):
    """All weights in 4 bits, in groups as wide as the pattern's blocks."""
    of(sparsifier, 4)


def of(sparsifier, bits):
    seen = {name: (layer.weight.clone(), layer.moments) for name, layer in sparsifier.layers.items()}
    for name, (weight, moments) in seen.items():
        made = rounded(weight, weight, moments, sparsifier.pattern.columns, bits)
        sparsifier.layers[name].weight.copy_(made)
