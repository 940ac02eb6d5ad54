"""Mixtures of experts: layers of language models, by how many tokens a call has and how unevenly they go.

Layers are those of published models (from each model's config.json on the Hugging Face hub), with d and f
divided by a scale, so that they fit a laptop. Shared experts are dense layers, and left out.

The dense kernel is the layer of as many parameters. The dense layer of as many FLOPs is a case of its own,
with no more experts than are asked. So is a layer that has been pruned to the experts it uses most, down to
one, which needs no router. Calls of a few tokens in bursts are the chunks of speculative decoding: what their
tokens touch together has to be read.
"""

from functools import partial
from itertools import product

from suite.case import case
from suite.patterns.routers import ExpertChoice, Hashed, Prototypes, Relu, TopP
from suite.patterns.routes import Bursts, Crowded, Dirichlet, Idle, Zipf
from suite.workload import workload

MODELS = {  # d, f, experts, asked
    "OLMoE": (2048, 1024, 64, 8),
    "Mixtral-8x7B": (4096, 14336, 8, 2),
    "DeepSeek-V2-Lite": (2048, 1408, 64, 6),
    "DeepSeek-V2": (5120, 1536, 160, 6),
    "DeepSeek-V3": (7168, 2048, 256, 8),
    "Qwen1.5-MoE-A2.7B": (2048, 1408, 60, 4),
    "Qwen3-30B-A3B": (2048, 768, 128, 8),
}
ANCHOR = "OLMoE"
SCALES = (4, 2)  # what d and f are divided by
TOKENS = (1024, 1, 64, 16, 256, 4096)
SKEWS = (0.0, 0.5, 1.0, 1.5, 2.0)
EVEN, ZIPF = partial(Zipf, 0.0), partial(Zipf, 1.0)
TRACES = (partial(Dirichlet, 0.3), partial(Bursts, 32), Crowded, Idle)
ROUTERS = (Relu, TopP, ExpertChoice, Prototypes, Hashed)
CHUNKS = (8, 2, 4, 32)  # tokens
KEPT = (32, 16, 4, 2, 1)  # experts of a pruned layer
TRAINED = 8  # the scale of layers that are trained for a step


@workload(version=2, ids=("scattermoe", "blockffn", "expert-pruning", "m6-t"))
def moe(extent):
    """Experts asked by tokens: from one token to thousands, from even loads to one expert that all ask."""
    yield from {"smoke": smoke, "default": default, "full": full}[extent]()


def layer(model, n, trace, dtype="bfloat16", scale=SCALES[0], op="moe", kept=None):
    """A call of n tokens; `trace` makes the pattern of a sparsity. kept: how many experts there are left."""
    d, f, e, asked = MODELS[model]
    e = kept or e
    sparsity = round(1 - min(asked, e) / e, 4)
    return case(op, trace(sparsity), dtype, n=n, e=e, d=d // scale, f=f // scale)


def dense(model, n):
    """The layer of as many FLOPs, which asks all its experts."""
    return layer(model, n, EVEN, kept=MODELS[model][3])


def step(n, trace, dtype="bfloat16"):
    """A training step of the anchor."""
    return layer(ANCHOR, n, trace, dtype, TRAINED, "moe_step")


def smoke():
    """Seconds."""
    yield layer(ANCHOR, 64, ZIPF, scale=16)
    yield layer(ANCHOR, 64, ZIPF, scale=16, op="moe_step")


def default():
    """The anchor at many, some and one token; evenly, with one expert that all ask, and as a dense layer."""
    for n, trace in ((1024, ZIPF), (64, ZIPF), (1, ZIPF), (1024, EVEN), (1024, Crowded)):
        yield layer(ANCHOR, n, trace)
    yield dense(ANCHOR, 1024)
    for trace in (EVEN, Crowded):
        yield step(1024, trace)


def full():
    """Tokens by unevenness, trace and router; dense and pruned layers, chunks, steps; other models."""
    for dtype, n, exponent in product(("bfloat16", "float32"), TOKENS, SKEWS):
        yield layer(ANCHOR, n, partial(Zipf, exponent), dtype)
    for n, trace in product(TOKENS, (*TRACES, *ROUTERS)):
        yield layer(ANCHOR, n, trace)
    for n, trace in product(CHUNKS, (partial(Bursts, 32), EVEN)):
        yield layer(ANCHOR, n, trace)
    for n, kept in product(TOKENS, KEPT):
        yield layer(ANCHOR, n, ZIPF, kept=kept)
    for dtype, n, trace in product(("bfloat16", "float32"), TOKENS, (ZIPF, EVEN, *TRACES)):
        yield step(n, trace, dtype)
    for n in TOKENS:
        yield dense(ANCHOR, n)
        yield layer(ANCHOR, n, ZIPF, scale=SCALES[1])
    for model, n in product([one for one in MODELS if one != ANCHOR], TOKENS):
        yield layer(model, n, ZIPF)
