"""Experts, pages, neurons in Triton's interpreter: `TRITON_INTERPRET=1 python tests/interpreter_routed.py`.

A line of JSON for each question: kernel, what was asked, and what is wrong with the answer, if anything.
"""

import json

import torch
from interpreter import Interpreter, answered, begin

from suite.activations import without
from suite.case import from_id
from suite.check import question
from suite.conformance import Trial, examine
from suite.kernel import KERNELS
from suite.op import OPS, make_operands
from suite.selection import PADDING, from_map

EXPERTS, STEP = "moe_scatter_triton", "moe_step_scatter_triton"
HEADS = "moa_scatter_triton"
PAGES, EVERY = "decode_gather_triton", "decode_stream_triton"
DOWN, UP = "actmm_gather_triton", "actmm_up_gather_triton"
NAMES = (EXPERTS, STEP, HEADS, PAGES, EVERY, DOWN, UP)
CONTROL = "another route or selection than was given"
ROUTED = (  # even and uneven; tokens of fewer experts, and of none; nothing to do; one token; ragged sizes
    ("moe/n=17,e=5,d=33,f=9/unstructured@0.5/float32/seed=0", ""),
    ("moe/n=17,e=5,d=33,f=9/unstructured@0.5/float16/seed=1", "empty rows"),
    ("moe/n=17,e=5,d=33,f=9/unstructured@1/float16/seed=0", ""),
    ("moe/n=1,e=8,d=64,f=48/zipf1@0.75/float32/seed=0", "signed zeros"),
    ("moe/n=20,e=4,d=40,f=24/crowded@0.5/float16/seed=0", ""),
    ("moe/n=20,e=16,d=40,f=24/idle@0.9/float32/seed=0", ""),
)
MIXED = (  # the same; and tiles of tokens that are not whole: three choices of each
    ("moa/n=16,e=5,d=17,g=2,f=16/unstructured@0.5/float32/seed=0", ""),
    ("moa/n=16,e=5,d=20,g=1,f=32/unstructured@0.5/float16/seed=1", "empty rows"),
    ("moa/n=16,e=5,d=33,g=1,f=16/unstructured@1/float16/seed=0", ""),
    ("moa/n=32,e=4,d=20,g=1,f=16/crowded@0.5/float16/seed=0", ""),
)
LONG = "moa/n=32,e=4,d=24,g=2,f=16/zipf1@0.25/float32/seed=0"
TALL = "moe/n=70,e=4,d=24,f=40/zipf1@0.5/float32/seed=0"
TRAINED = ROUTED[:4]
TILES = ((16, 16, 16), (32, 16, 32), (64, 32, 16))  # choices, columns, numbers of a step
PAGED = (
    ("decode/n=2,h=4,g=2,t=96,d=32,b=16/unstructured@0.5/float16/seed=0", ""),
    ("decode/n=1,h=1,g=1,t=16,d=16,b=1/unstructured@1/float32/seed=0", ""),
    ("decode/n=1,h=3,g=3,t=70,d=64,b=10/unstructured@0.5/float32/seed=0", "one long row"),
    ("decode/n=1,h=6,g=2,t=384,d=48,b=4/unstructured@0.9/float16/seed=0", "empty rows"),
    ("decode/n=1,h=20,g=1,t=130,d=80,b=1/unstructured@0.5/float32/seed=0", ""),
    ("decode/n=1,h=2,g=1,t=640,d=32,b=64/unstructured@0/float32/seed=0", "signed zeros"),
)
LAYERS = (  # m, k, n; sparsity; dtype; twist
    *(("m=17,k=33,n=5", 0.5, "float32", twist) for twist in ("signed zeros", "empty rows", "full rows")),
    *(("m=130,k=70,n=65", 0.5, "float16", twist) for twist in ("", "one long row")),
    *(("m=64,k=48,n=1", sparsity, dtype, "") for sparsity in (0, 1) for dtype in ("float32", "float16")),
    *(("m=300,k=1100,n=1", 0.9, dtype, "empty rows") for dtype in ("float32", "float16")),
    ("m=40,k=700,n=130", 0.9, "float32", ""),
    ("m=700,k=40,n=4", 0.9, "float16", "empty rows"),
    ("m=1,k=1,n=1", 0, "float32", ""),
)
CHOSEN = "decode/n=2,h=4,g=2,t=96,d=32,b=8/unstructured@0.5/{}/seed=0"


def told(one, trials):
    """Examined as `sparsemark check` does."""
    for name, twist in trials:
        trial = Trial(from_id(name), twist)
        yield str(trial), examine(one, trial, Interpreter()).note


def layers(op):
    for sizes, sparsity, dtype, twist in LAYERS:
        yield f"{op}/{sizes}/unstructured@{sparsity}/{dtype}/seed=0", twist


def activated(name):
    """Neurons by their cuts; then chosen ones, with what the selector adds, and others after them."""
    one = KERNELS[name]
    yield from told(one, layers(one.op))
    for sizes, dtype in (("m=60,k=70,n=5", "float16"), ("m=70,k=60,n=1", "float32")):
        of = from_id(f"{one.op}/{sizes}/chosen@0.5/{dtype}/seed=0")
        operands = make_operands(of)
        w, _, *live = operands
        made = one.prepare(*operands)
        for silent in (live[-1] < 0, live[-1] > 0.5):
            added = torch.randn(len(w), 1, generator=torch.Generator().manual_seed(1)).to(w.dtype)
            found = without(live[-1], silent, beside=added)
            yield f"{of} {int(silent.sum())}", answered(made.run(*live, found), of, (w, found, *live))
        yield f"{of} by cuts again", answered(made.run(*live), of, operands)
        yield CONTROL, answered(made.run(*live), of, (w, found, *live))


def routed(scatter):
    """Many tokens by small tables, so that several programs route and several groups of tiles follow."""
    one = KERNELS[EXPERTS]
    yield from told(one, ROUTED)
    scatter.TABLE, scatter.GROUP = 32, 2
    of = from_id(TALL)
    operands = make_operands(of)
    for tile in TILES:
        scatter.quickest = lambda key, ways, call, on, tile=tile: scatter.Way(tile, 1, 1)
        made = one.prepare(*operands)
        yield f"{of} by {tile}", answered(made.run(*operands[3:]), of, operands)
        yield f"work by {tile}", unlike(made.executed(), whole_tiles(of, operands[0], *tile))
    (twin, _, _) = OPS["moe"].twin(operands, *(torch.zeros(1, 1),) * 2)
    yield f"{of} anew", answered(made.run(*twin[3:]), of, twin)
    yield CONTROL, answered(made.run(*twin[3:]), of, (*twin[:4], operands[4]))


def stepped(scatter, step):
    """A training step likewise, by one tile."""
    one = KERNELS[STEP]
    yield from told(one, [(name.replace("moe/", "moe_step/"), twist) for name, twist in TRAINED])
    scatter.TABLE, scatter.GROUP = 32, 2
    of = from_id(TALL.replace("moe/", "moe_step/"))
    operands = make_operands(of)
    step.quickest = lambda key, ways, call, on: scatter.Way(TILES[1], 1, 1)
    made = one.prepare(*operands)
    yield f"{of} by {TILES[1]}", answered(made.run(*operands[1:]), of, operands)
    yield "work", unlike(made.executed(), whole_steps(of, operands[0], *TILES[1]))
    twin = question(of, operands).twin.operands
    yield f"{of} anew", answered(made.run(*twin[1:]), of, twin)
    yield CONTROL, answered(made.run(*twin[1:]), of, operands)


def mixed(heads):
    """Heads likewise, by tiles of attention that several tokens share, in part."""
    one = KERNELS[HEADS]
    yield from told(one, MIXED)
    of = from_id(LONG)
    operands = make_operands(of)
    n, top, wide = of["n"], 3, of["g"] * of["f"]
    twin = question(of, operands).twin.operands
    for rows, keys in ((16, 16), (32, 16), (16, 32)):
        ways = iter((heads.Way(TILES[0], 1, 1), heads.Way(TILES[1], 1, 1), heads.Way((rows, keys), 1, 1)))
        heads.quickest = lambda key, there, call, on, ways=ways: next(ways)
        made = one.prepare(*operands)
        yield f"{of} by {rows} x {keys}", answered(made.run(*operands[3:]), of, operands)
        loads = operands[0].row_lengths
        products = sum(
            2 * rows_of(loads, tile[0]) * up(outputs, tile[1]) * up(inputs, tile[2])
            for tile, outputs, inputs in ((TILES[0], wide, of["d"]), (TILES[1], of["d"], wide))
        )
        seen = sum(rows * up((at + rows - 1) // top + 1, keys) for at in range(0, n * top, rows))
        yield f"work by {rows} x {keys}", unlike(made.executed(), products + 4 * wide * seen)
    found = made.run(*twin[3:])
    yield f"{of} anew", answered(found, of, twin)
    yield CONTROL, answered(found, of, operands)


def up(size, unit):
    """To a whole number of units."""
    return -(-size // unit) * unit


def rows_of(loads, unit):
    """Of tiles of so many choices of an expert."""
    return sum(up(load, unit) for load in loads.tolist())


def whole_steps(of, route, rows, columns, deep):
    """FLOPs of the four products of choices, and of the gradients of an expert's two weights."""
    choices, summed = (
        sum(-(-load // unit) * unit for load in route.row_lengths.tolist()) for unit in (rows, deep)
    )
    d, f = of["d"], of["f"]

    def whole(size, unit):
        return -(-size // unit) * unit

    products = sum(
        whole(outputs, columns) * whole(inputs, deep)
        for outputs, inputs in ((2 * f, d), (d, f), (f, d), (d, 2 * f))
    )
    gradients = sum(whole(high, rows) * whole(broad, columns) for high, broad in ((2 * f, d), (d, f)))
    return 2 * (choices * products + summed * gradients)


def whole_tiles(of, route, rows, columns, deep):
    """FLOPs of the two products before the hidden numbers and of the one behind, each in whole tiles."""
    choices = sum(-(-load // rows) * rows for load in route.row_lengths.tolist())
    d, f = of["d"], of["f"]
    into, out_of = (
        -(-f // columns) * columns * -(-d // deep) * deep,
        -(-d // columns) * columns * -(-f // deep) * deep,
    )
    return 2 * choices * (2 * into + out_of)


def unlike(found, expected):
    return "" if found == expected else f"{found}, should be {expected}"


def selection(of, heads, seed):
    """With keys of its own for so many heads: the case's, some of them no keys, and two pages beside."""
    drawn = torch.Generator().manual_seed(seed)
    _, k, v, _ = make_operands(of)
    n, h, across, size = of["n"], of["h"], of["t"] // of["b"], of["b"]
    more = (n, heads, 2 * size, of["d"])
    k, v = (
        torch.cat(
            (
                one.repeat_interleave(heads // one.shape[1], 1),
                torch.randn(more, generator=drawn).to(one.dtype),
            ),
            2,
        )
        for one in (k, v)
    )
    bias = torch.randn(n, heads, k.shape[2], generator=drawn)
    bias[..., : size + 5] = PADDING
    kept = torch.rand(n * h, 1, across + 2, generator=drawn) < 0.5
    kept[..., -1] = True
    kept[-1, 0, :2] = True
    return from_map(kept, of.pattern, k=k, v=v, bias=bias)


def listed(pages, mask, groups):
    """Twice over, pages of each group with a bit for each head; and as torch has it."""
    lists = pages.Lists.empty(mask.shape[0], groups, mask.shape[1], torch.ones(1))
    for _ in range(2):
        lists.fill(mask)
    rows = [set(one.tolist()) for one in mask.columns.split(mask.row_lengths.tolist())]
    heads = len(rows) // groups
    expected = []
    for group in range(groups):
        mine = rows[group * heads : (group + 1) * heads]
        expected.append(
            {page: sum((page in one) << at for at, one in enumerate(mine)) for page in set.union(*mine)}
        )
    cut = zip(lists.listed, lists.bits, lists.counts.tolist(), strict=True)
    found = [dict(zip(own[:count].tolist(), bits[:count].tolist(), strict=True)) for own, bits, count in cut]
    return found, expected


def paged(pages):
    """Lists of pages by small steps, so that each is made in several."""
    one = KERNELS[PAGES]
    yield from told(one, PAGED)
    pages.MARKED, pages.LISTED = 4, 8
    for heads, dtype, tokens in ((2, "float16", 16), (4, "float32", 32)):
        pages.quickest = lambda key, ways, call, on, tokens=tokens: pages.Way((tokens, 4), 1, 1)
        of = from_id(CHOSEN.format(dtype))
        mask, k, v, q = make_operands(of)
        made = one.prepare(mask, k, v, q)
        yield f"lists in {dtype}", unlike(*listed(pages, mask, of["n"] * of["g"]))
        for seed in (0, 1):
            found = selection(of, heads, seed)
            said = answered(made.run(q, found), of, (found, k, v, q))
            yield f"selection {seed} of {heads} heads in {dtype}", said
        yield f"the mask again in {dtype}", answered(made.run(q), of, (mask, k, v, q))
        if heads == 4:
            yield CONTROL, answered(made.run(q, found), of, (selection(of, heads, 0), k, v, q))


def main():
    begin()
    from suite.kernels.decode import pages_triton as pages
    from suite.kernels.moa import heads_triton as heads
    from suite.kernels.moe import scatter_triton as scatter
    from suite.kernels.moe_step import scatter_step_triton as step

    asked = {
        EVERY: told(KERNELS[EVERY], PAGED[:1] + PAGED[2:4]),
        STEP: stepped(scatter, step),
        EXPERTS: routed(scatter),
        HEADS: mixed(heads),
        PAGES: paged(pages),
        DOWN: activated(DOWN),
        UP: activated(UP),
    }
    for name, questions in asked.items():
        for question_of, wrong in questions:
            print(json.dumps((name, question_of, wrong)), flush=True)


if __name__ == "__main__":
    main()
