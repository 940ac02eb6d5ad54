"""Attention over some blocks of the scores: prompts of language models, and videos, whose masks are known.

The masks here are exact: documents that do not see each other, windows, or blocks drawn at random, which say
what skipping buys before anything is said about choosing well.
"""

from itertools import product

from suite.case import case
from suite.patterns.unstructured import Unstructured
from suite.workload import workload

HEADS, SIZE, BLOCK = 8, 64, 64
SPARSITIES = (0.5, 0.75, 0.9)
LENGTHS = (1024, 2048, 4096, 8192, 16384)
OPS = ("attention", "attention_causal")


@workload(version=1, ids=("sparse-frontier",))
def attention(extent):
    """Heads of 64 numbers over blocks of 64 tokens, kept at random."""
    yield from {"smoke": smoke, "default": default, "full": full}[extent]()


def smoke():
    """Seconds."""
    for op in OPS:
        yield point(op, 0.75, 512)


def default():
    """Two thousand tokens at every sparsity, both ways of looking, and half as many heads of keys."""
    for sparsity in SPARSITIES:
        yield point("attention", sparsity, 2048)
    for sparsity in SPARSITIES[::2]:
        yield point("attention_causal", sparsity, 2048, groups=2)


def full():
    """Every length and dtype."""
    for op, dtype, n, sparsity in product(OPS, ("bfloat16", "float32"), LENGTHS, (*SPARSITIES, 0.95)):
        yield point(op, sparsity, n, dtype=dtype)


def point(op, sparsity, n, groups=HEADS, dtype="bfloat16"):
    """A prompt of n tokens."""
    return case(op, Unstructured(sparsity), dtype, h=HEADS, g=groups, n=n, d=SIZE, b=BLOCK)
