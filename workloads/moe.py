"""Mixtures of experts: layers of language models, by how many tokens a call has and how unevenly they go.

Layers are those of published models (from each model's config.json on the Hugging Face hub), with d and f
divided by a scale, so that they fit a laptop. Shared experts are dense layers, and left out.

The dense kernel is the layer of as many parameters. The dense layer of as many FLOPs is a case of its own,
with no more experts than are asked.
"""

from functools import partial
from itertools import product

from suite.case import case
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


@workload(version=1, ids=("scattermoe", "upcycling-inference", "m6-t"))
def moe(extent):
    """Experts asked by tokens: from one token to thousands, from even loads to one expert that all ask."""
    yield from {"smoke": smoke, "default": default, "full": full}[extent]()


def layer(model, n, trace, dtype="bfloat16", scale=SCALES[0]):
    """A call of n tokens; `trace` makes the pattern of a sparsity."""
    d, f, e, asked = MODELS[model]
    return case("moe", trace(round(1 - asked / e, 4)), dtype, n=n, e=e, d=d // scale, f=f // scale)


def dense(model, n):
    """The layer of as many FLOPs, which asks all its experts."""
    d, f, _, asked = MODELS[model]
    return case("moe", Zipf(0.0, 0.0), "bfloat16", n=n, e=asked, d=d // SCALES[0], f=f // SCALES[0])


def smoke():
    """Seconds."""
    yield layer(ANCHOR, 64, ZIPF, scale=16)


def default():
    """The anchor at many, some and one token; evenly, with one expert that all ask, and as a dense layer."""
    for n, trace in ((1024, ZIPF), (64, ZIPF), (1, ZIPF), (1024, EVEN), (1024, Crowded)):
        yield layer(ANCHOR, n, trace)
    yield dense(ANCHOR, 1024)


def full():
    """Tokens by unevenness and by trace, dense layers beside, larger ones, and other models."""
    for dtype, n, exponent in product(("bfloat16", "float32"), TOKENS, SKEWS):
        yield layer(ANCHOR, n, partial(Zipf, exponent), dtype)
    for n, trace in product(TOKENS, TRACES):
        yield layer(ANCHOR, n, trace)
    for n in TOKENS:
        yield dense(ANCHOR, n)
        yield layer(ANCHOR, n, ZIPF, scale=SCALES[1])
    for model, n in product([one for one in MODELS if one != ANCHOR], TOKENS):
        yield layer(model, n, ZIPF)
