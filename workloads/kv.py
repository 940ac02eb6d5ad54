"""Decode over a key-value cache: a batch of sequences, one new token each, and contexts of any length.

Reading the cache is the work, so its bytes stand beside every time. Pages that are left out are not read, and
pruned numbers are read as a bitmap. Pages drawn at random say what leaving out buys before anything is said
about choosing well; then selectors choose them at run time, on caches of which it is known what heads seek.
"""

from itertools import product

from suite.case import case
from suite.inputs import is_recording
from suite.patterns.chosen import Chosen
from suite.patterns.fan_in import FanIn
from suite.patterns.unstructured import Unstructured
from suite.workload import workload
from suite.workloads.transformer import block

SIZE = 128  # numbers a head
SIXTEENTH = 1 - 1 / 16
SPARSITIES = (SIXTEENTH, 0.75, 0.5, 1 - 1 / 64)
PRUNED = (0.7, 0.5)
PAGES = (16, 1, 64)
INPUTS = ("recency", "needles", "channels", "")  # beside "blend", which has each in turn
CONTEXTS = tuple(4**power for power in range(5, 10))
BATCHES = (1, 8, 32)
MOST = 2**29  # numbers of keys, or of values


def in_a_block(asked):
    """Of what is chosen the first sparsity, on one kind of cache."""
    case = asked.case
    chosen_here = case.op == "decode" and case.pattern == Chosen(SIXTEENTH)
    return block(asked) if chosen_here and (case.data == "blend" or is_recording(case.data)) else None


@workload(version=1, layer=in_a_block, ids=("double-sparsity", "mustafar", "shadowkv", "lserve"))
def kv(extent):
    """One query a head over all, some or pruned numbers of a cache, by batch and context."""
    yield from {"smoke": smoke, "default": default, "full": full}[extent]()


def smoke():
    """Seconds."""
    yield paged(SIXTEENTH, 1, 1024)
    yield chosen(SIXTEENTH, 1, 1024)
    yield pruned(0.7, 1, 1024)


def default():
    """Caches of 32 MB: one long context, or several short ones of more heads."""
    yield paged(SIXTEENTH, 1, 8192)
    yield paged(0.5, 1, 8192)
    yield chosen(SIXTEENTH, 1, 8192)
    yield pruned(0.7, 1, 8192)
    yield paged(SIXTEENTH, 8, 1024, heads=32)


def full():
    """Every batch and context, up to 256K tokens, as far as memory allows."""
    sizes = [(n, t, h) for n, t, h in product(BATCHES, CONTEXTS, (8, 32)) if n * t * 8 * SIZE <= MOST]
    for (n, t, h), sparsity, page in product(sizes, SPARSITIES, PAGES):
        yield paged(sparsity, n, t, h, page)
        yield chosen(sparsity, n, t, h, page)
    for (n, t, h), data in product(sizes, INPUTS):
        yield chosen(SIXTEENTH, n, t, h, data=data)
    for (n, t, h), sparsity, dtype in product(sizes, PRUNED, ("bfloat16", "float32")):
        if n * t * 8 * SIZE <= MOST // 4:  # pruning sorts
            yield pruned(sparsity, n, t, h, dtype)


def paged(sparsity, n, t, heads=8, page=16):
    """Pages that are known beforehand."""
    return case("decode", Unstructured(sparsity), "bfloat16", n=n, h=heads, g=8, t=t, d=SIZE, b=page)


def chosen(sparsity, n, t, heads=8, page=16, data="blend"):
    """Pages chosen when the query is there."""
    sizes = {"n": n, "h": heads, "g": 8, "t": t, "d": SIZE, "b": page}
    return case("decode", Chosen(sparsity), "bfloat16", data=data, **sizes)


def pruned(sparsity, n, t, heads=8, dtype="bfloat16"):
    """Numbers pruned token by token."""
    return case("decode_pruned", FanIn(sparsity), dtype, n=n, h=heads, g=8, t=t, d=SIZE)
