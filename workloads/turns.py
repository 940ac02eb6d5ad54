"""The life of a key-value cache: it is made, thinned, asked, and asked again.

Questions about one context whose answers are known. Turns of one conversation, requests that share a text,
and single questions are cases of equal budgets, so what a method loses from the first question to the later
ones stands in one table. The cache is made by a first layer, in full or by sparse prefill, or is rounded to
4 bits. The same questions go to smaller models, which look at all of it for as many FLOPs.
"""

from itertools import product

from suite.case import case
from suite.patterns.chosen import Chosen
from suite.workload import workload

TURNS = 4
EIGHTH = 1 - 1 / 8
SPARSITIES = (EIGHTH, 1 - 1 / 16, 0.75)
DATA = ("turns", "requests", "turns_streamed", "turns_rounded")
CONTEXTS = (1024, 4096, 16384)
NARROW = (32, 16)  # heads of smaller models, whose names are more alike; the model itself has 64


@workload(version=2, ids=("scbench", "sparse-frontier"))
def turns(extent):
    """Several questions about one context, in turns or as requests, over caches made in several ways."""
    yield from {"smoke": smoke, "default": default, "full": full}[extent]()


def smoke():
    """Seconds."""
    yield asked("turns", 0.75, 512)


def default():
    """A thousand tokens: answers are held against float64, which takes longer than all timing."""
    for data in DATA[:2]:
        yield asked(data, EIGHTH, 1024)
    yield asked("turns", 0.75, 1024)
    for d in NARROW:
        yield asked("turns", 0.75, 1024, d=d)


def full():
    """Longer contexts and conversations, other budgets, and heads with keys of their own."""
    for data, t, sparsity in product(DATA, CONTEXTS, SPARSITIES):
        yield asked(data, sparsity, t)
    for t, sparsity in product(CONTEXTS, SPARSITIES):
        yield asked("turns", sparsity, t, count=1)
        yield asked("turns", sparsity, t, heads=4)
    yield asked("turns", EIGHTH, 4096, count=8)
    for t, d in product(CONTEXTS, NARROW):
        yield asked("turns", 0.75, t, d=d)


def asked(data, sparsity, t, count=TURNS, heads=8, d=64):
    """So many questions about a context of t tokens."""
    return case("decode", Chosen(sparsity), "bfloat16", data=data, n=count, h=heads, g=4, t=t, d=d, b=16)
