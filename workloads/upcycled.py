"""Upcycled: a dense feed-forward layer, and the mixture of experts it is made into, by load.

Every expert begins as a copy of the layer (Komatsuzaki et al., "Sparse Upcycling", ICLR 2023), so that a
mixture with gates of sum 1 answers as the layer does, and costs as often its FLOPs as a token asks experts.
What its numbers are does not matter to time; how many experts a call touches does: at one token those that
are asked, at many tokens all. The layer is a mixture of one expert, which all tokens ask.

The router is new, so loads are even at first; what a skew costs is beside it.
"""

from functools import partial
from itertools import product

from suite.case import case
from suite.patterns.routes import Crowded, Zipf
from suite.workload import workload
from suite.workloads.shapes import LLM

LAYERS = ("Llama-3-8B gate", "Llama-2-7B gate", "Qwen2.5-7B gate")  # the first is Mistral-7B's too
SCALE = 8  # what d and f are divided by
EXPERTS, ASKED = 8, 2
TOKENS = (64, 1, 16, 256, 1024, 4, 4096)
EVEN, ZIPF = partial(Zipf, 0.0), partial(Zipf, 1.0)


@workload(version=1, ids=("upcycling-inference", "sparse-upcycling"))
def upcycled(extent):
    """A dense layer against its upcycled mixture of experts, from one token to thousands."""
    yield from {"smoke": smoke, "default": default, "full": full}[extent]()


def layer(n, trace=EVEN, name=LAYERS[0], experts=EXPERTS, asked=ASKED, scale=SCALE):
    """A call of n tokens; `trace` makes the pattern of a sparsity."""
    f, d = LLM[name]
    sparsity = round(1 - asked / experts, 4)
    return case("moe", trace(sparsity), "bfloat16", n=n, e=experts, d=d // scale, f=f // scale)


def dense(n, name=LAYERS[0], scale=SCALE):
    """What it is made of."""
    return layer(n, name=name, experts=1, asked=1, scale=scale)


def smoke():
    """Seconds."""
    yield layer(64, scale=32)
    yield dense(64, scale=32)


def default():
    """Few and many tokens, and one expert that all ask."""
    for n in (64, 1, 16, 256):
        yield layer(n)
        yield dense(n)
    yield layer(256, Crowded)


def full():
    """Tokens by load, by the number of experts and of those asked, and other layers."""
    for n, name in product(TOKENS, LAYERS):
        yield dense(n, name)
    for n, trace in product(TOKENS, (EVEN, ZIPF, Crowded)):
        yield layer(n, trace)
    for n, (experts, asked) in product(TOKENS, ((8, 1), (16, 2), (32, 2))):
        yield layer(n, experts=experts, asked=asked)
    for n, name in product(TOKENS, LAYERS[1:]):
        yield layer(n, name=name)
