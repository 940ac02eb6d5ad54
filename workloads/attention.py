"""Attention over some blocks of the scores: prompts of language models, and videos.

Blocks drawn at random, known beforehand, say what skipping buys before anything is said about choosing well.
Then blocks that selectors choose at run time, on operands of which it is known what they look at.
"""

from itertools import product

from suite.case import case
from suite.inputs import is_recording
from suite.patterns.chosen import Chosen
from suite.patterns.unstructured import Unstructured
from suite.workload import workload
from suite.workloads.transformer import block

HEADS, SIZE, BLOCK = 8, 64, 64
SPARSITIES = (0.5, 0.75, 0.9)
LENGTHS = (1024, 2048, 4096, 8192, 16384)
OPS = ("attention", "attention_causal")


INPUTS = ("heads", "sinks", "lines", "scattered", "video", "documents", "iid")


def in_a_block(asked):
    """Of causal attention one sparsity: what a block does beside it is the same at all."""
    case = asked.case
    chosen_here = case.op == "attention_causal" and case.pattern == Chosen(0.75)
    return block(asked) if chosen_here and (case.data == "heads" or is_recording(case.data)) else None


@workload(version=2, ids=("sparse-frontier",), layer=in_a_block)
def attention(extent):
    """Heads of 64 numbers over blocks of 64 tokens, kept at random or chosen at run time."""
    yield from {"smoke": smoke, "default": default, "full": full}[extent]()


def smoke():
    """Seconds."""
    for op in OPS:
        yield point(op, 0.75, 512)
    yield chosen(OPS[1], 0.75, 512)


def default():
    """Two thousand tokens at every sparsity, both ways of looking, and fewer heads of keys."""
    for sparsity in SPARSITIES:
        yield point("attention", sparsity, 2048)
    for sparsity in (0.75, 0.5, 0.9):
        yield chosen("attention_causal", sparsity, 2048)
    yield chosen("attention", 0.75, 2048)
    for sparsity in SPARSITIES[::2]:
        yield point("attention_causal", sparsity, 2048, groups=2)


def full():
    """Every length and dtype."""
    for op, dtype, n, sparsity in product(OPS, ("bfloat16", "float32"), LENGTHS, (*SPARSITIES, 0.95)):
        yield point(op, sparsity, n, dtype=dtype)
    for op, data, n, sparsity in product(OPS, INPUTS, LENGTHS, (*SPARSITIES, 0.95)):
        yield chosen(op, sparsity, n, data)


def point(op, sparsity, n, groups=HEADS, dtype="bfloat16"):
    """A prompt of n tokens."""
    return case(op, Unstructured(sparsity), dtype, h=HEADS, g=groups, n=n, d=SIZE, b=BLOCK)


def chosen(op, sparsity, n, data="heads"):
    """A prompt of n tokens whose blocks are chosen when it is there."""
    return case(op, Chosen(sparsity), "bfloat16", data=data, h=HEADS, g=HEADS, n=n, d=SIZE, b=BLOCK)
