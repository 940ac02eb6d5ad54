"""Mixtures of attention heads: layers by how many tokens there are and how unevenly they go.

JetMoE-8B is a published model (sizes from its config.json on the Hugging Face hub), whose experts have 16
heads; d and the number of heads are divided by a scale, so that the layer fits a laptop. The other layer has
experts of one head, of which more are asked. Attention grows with the square of the tokens, the products
around it do not.

The dense kernel is the layer of as many parameters. The dense layer of as many FLOPs is a case of its own,
with no more experts than are asked.
"""

from functools import partial
from itertools import product

from suite.case import case
from suite.patterns.routes import Bursts, Crowded, Dirichlet, Idle, Zipf
from suite.workload import workload

SCALE = 4
LAYERS = {  # d, heads of an expert, numbers of a head, experts, asked
    "JetMoE-8B": (2048 // SCALE, 16 // SCALE, 128, 8, 2),
    "single heads": (512, 1, 128, 32, 8),
}
TOKENS = (1024, 64, 256, 4096)
EVEN, ZIPF = partial(Zipf, 0.0), partial(Zipf, 1.0)
TRACES = (ZIPF, EVEN, partial(Zipf, 2.0), partial(Dirichlet, 0.3), partial(Bursts, 32), Crowded, Idle)


@workload(version=1, ids=("scattermoe",))
def moa(extent):
    """Experts that are attention heads, on tokens that share keys."""
    yield from {"smoke": smoke, "default": default, "full": full}[extent]()


def layer(name, n, trace, dtype="bfloat16", kept=None):
    """A call of n tokens; `trace` makes the pattern of a sparsity. kept: how many experts there are."""
    d, g, f, e, asked = LAYERS[name]
    e = kept or e
    return case("moa", trace(round(1 - asked / e, 4)), dtype, n=n, e=e, d=d, g=g, f=f)


def smoke():
    """Seconds."""
    yield layer("JetMoE-8B", 64, ZIPF)


def default():
    """Each layer, at a thousand tokens."""
    for name in LAYERS:
        yield layer(name, 1024, ZIPF)


def full():
    """Tokens by trace; and the dense layers."""
    for name, dtype, n, trace in product(LAYERS, ("bfloat16", "float32"), TOKENS, TRACES):
        yield layer(name, n, trace, dtype)
    for name, n in product(LAYERS, TOKENS):
        yield layer(name, n, EVEN, kept=LAYERS[name][-1])
