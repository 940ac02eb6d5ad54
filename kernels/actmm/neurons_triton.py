"""Neurons in Triton: products that load what belongs to neurons that count, and nothing of the others.

After Liu et al., "Training-Free Activation Sparsity in Large Language Models", ICLR 2025, and Lee et al.,
"CATS", COLM 2024. A program compares activations with their cuts as it meets them and loads the weights of a
neuron under that mask, so there is no list of neurons, nor a launch that makes one. What is saved is reading:
zeros in place of silent neurons are multiplied like any number. Sums are float32.

Down, neurons are what is summed over: the weight is stored neuron by neuron, its neurons are shared out, as
there are too few outputs for a GPU, and what the parts sum up to is added by a second launch, in order. Up,
neurons are the outputs: a tile of rows in which none counts is over at once.

One token is multiplied by the processors' ordinary arithmetic, several by tensor cores, whose tiles of
sixteen tokens are filled up with zeros.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from suite.activations import Active, taken
from suite.cuda.tuning import Way, processors, quickest
from suite.kernel import Prepared
from suite.ops.actmm import reaching

LEAST, MOST = 16, 64  # tokens of a tile, where there are several
PARTS = 64  # that neurons are shared out to, at most: one program adds them up
SIZE = 256  # outputs of a program that adds up


# Outputs of a tile, numbers of a step, programs a processor (down).
DOWN_ONE = (
    *(Way((128, 32, 8), 4, 1), Way((256, 16, 8), 4, 1), Way((128, 64, 4), 8, 1), Way((256, 32, 4), 8, 1)),
    *(Way((64, 64, 8), 4, 1), Way((64, 32, 16), 2, 1), Way((512, 16, 4), 8, 1)),
)
UP_ONE = (
    *(Way((16, 256, 1), 4, 1), Way((8, 512, 1), 4, 1), Way((4, 1024, 1), 4, 1), Way((16, 512, 1), 8, 1)),
    *(Way((4, 512, 1), 2, 1), Way((1, 1024, 1), 1, 1)),
)
# Of several tokens, by the bytes of a number.
DOWN = {
    2: (Way((64, 64, 4), 4, 3), Way((128, 32, 4), 4, 3), Way((128, 64, 2), 4, 3), Way((64, 32, 8), 4, 4)),
    4: (Way((32, 32, 4), 4, 2), Way((64, 32, 4), 4, 2), Way((32, 64, 4), 4, 2)),
}
UP = {
    2: (Way((16, 128, 1), 4, 4), Way((32, 128, 1), 4, 3), Way((64, 64, 1), 4, 4), Way((16, 256, 1), 4, 3)),
    4: (Way((16, 64, 1), 4, 2), Way((32, 32, 1), 4, 2), Way((32, 64, 1), 4, 2)),
}


@triton.jit
def multiply_down(
    rows,
    cut,
    x,
    partial,
    m,
    k,
    n,
    parts,
    TOKENS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    STEP: tl.constexpr,
):
    """partial [parts, n, m]: of a tile of tokens and outputs, the sums over one part of the neurons.

    rows: the weight, neuron by neuron [k, m].
    """
    right = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    part = tl.program_id(1)
    token = tl.program_id(2) * TOKENS + tl.arange(0, TOKENS)
    length = tl.cdiv(tl.cdiv(k, STEP), parts) * STEP
    sums = tl.zeros((STEP if TOKENS == 1 else TOKENS, OUTPUTS), tl.float32)
    for at in range(part * length, tl.minimum(k, (part + 1) * length), STEP):
        neuron = at + tl.arange(0, STEP)
        there = (token[:, None] < n) & (neuron[None, :] < k)
        values = tl.load(x + neuron[None, :] * n + token[:, None], mask=there, other=0.0)
        limit = tl.load(cut + neuron, mask=neuron < k, other=float("inf"))
        counts = tl.abs(values) >= limit[None, :]
        values = tl.where(counts, values, 0.0)
        live = tl.max(counts.to(tl.int32), 0) != 0
        tile = tl.load(
            rows + neuron.to(tl.int64)[:, None] * m + right[None, :],
            mask=live[:, None] & (right[None, :] < m),
            other=0.0,
        )
        if TOKENS == 1:
            sums += tl.sum(values.to(tl.float32), 0)[:, None] * tile.to(tl.float32)
        else:
            sums = tl.dot(values.to(tile.dtype), tile, sums, input_precision="ieee")
    if TOKENS == 1:
        sums = tl.sum(sums, 0)[None, :]
    place = (tl.cast(part, tl.int64) * n + token)[:, None] * m + right[None, :]
    tl.store(partial + place, sums, mask=(token[:, None] < n) & (right[None, :] < m))


@triton.jit
def add_up(partial, out, size, parts, PARTS: tl.constexpr, SIZE: tl.constexpr):
    """Of `size` numbers, SIZE, summed over the parts."""
    at, part = tl.program_id(0) * SIZE + tl.arange(0, SIZE), tl.arange(0, PARTS)
    there = (part[:, None] < parts) & (at[None, :] < size)
    sums = tl.load(partial + part.to(tl.int64)[:, None] * size + at[None, :], mask=there, other=0.0)
    tl.store(out + at, tl.sum(sums, 0).to(out.dtype.element_ty), mask=at < size)


@triton.jit
def multiply_up(
    w,
    cut,
    x,
    g,
    out,
    m,
    k,
    n,
    TOKENS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    STEP: tl.constexpr,
):
    """out = g * (w x) of a tile of neurons and tokens, 0 where g does not reach its cut."""
    row = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    token = tl.program_id(1) * TOKENS + tl.arange(0, TOKENS)
    there = (row[:, None] < m) & (token[None, :] < n)
    gates = tl.load(g + row[:, None] * n + token[None, :], mask=there, other=0.0)
    limit = tl.load(cut + row, mask=row < m, other=float("inf"))
    counts = tl.abs(gates) >= limit[:, None]
    live = tl.max(counts.to(tl.int32), 1)
    sums = tl.zeros((OUTPUTS, STEP if TOKENS == 1 else TOKENS), tl.float32)
    for at in range(0, tl.max(live, 0) * k, STEP):
        deep = at + tl.arange(0, STEP)
        tile = tl.load(
            w + row.to(tl.int64)[:, None] * k + deep[None, :],
            mask=(live != 0)[:, None] & (deep[None, :] < k),
            other=0.0,
        )
        if TOKENS == 1:
            slab = tl.load(x + deep * n + tl.program_id(1), mask=deep < k, other=0.0)
            sums += tile.to(tl.float32) * slab.to(tl.float32)[None, :]
        else:
            inside = (deep[:, None] < k) & (token[None, :] < n)
            slab = tl.load(x + deep[:, None] * n + token[None, :], mask=inside, other=0.0)
            sums = tl.dot(tile, slab, sums, input_precision="ieee")
    if TOKENS == 1:
        sums = tl.sum(sums, 1)[:, None]
    gated = tl.where(counts, gates.to(tl.float32) * sums, 0.0)
    tl.store(out + row[:, None] * n + token[None, :], gated.to(out.dtype.element_ty), mask=there)


def tile_of(n: int) -> int:
    """Tokens of a tile."""
    return 1 if n == 1 else min(MOST, max(LEAST, triton.next_power_of_2(n)))


def issued(way: Way, tokens: int, outputs: int, deep: int, n: int) -> int:
    """FLOPs, those of whole tiles."""
    tall, step, _ = way.tile
    return 2 * -(-n // tokens) * -(-outputs // tall) * -(-deep // step) * tokens * tall * step


def launched(way: Way) -> dict[str, int]:
    """What either product takes of it."""
    return {"OUTPUTS": way.tile[0], "STEP": way.tile[1], **way.options}


def down(w: Tensor, cut: Tensor | Active, x: Tensor) -> Prepared:
    """w x, of x what reaches its cut, or what is chosen in each call."""
    (m, k), n = w.shape, x.shape[1]
    rows, out, tokens = w.t().contiguous(), w.new_empty(n, m), tile_of(n)

    def parts_of(way: Way) -> int:
        outputs, step, each = way.tile
        others = -(-m // outputs) * -(-n // tokens)
        return max(1, min(PARTS, each * processors(x) // others, -(-k // step)))

    there = DOWN_ONE if n == 1 else DOWN[w.itemsize]
    partial = w.new_empty(max(map(parts_of, there)), n, m, dtype=torch.float32)

    def launch(way: Way, x: Tensor, cuts: Tensor) -> None:
        parts = parts_of(way)
        multiply_down[(-(-m // way.tile[0]), parts, -(-n // tokens))](
            *(rows, cuts, x, partial, m, k, n, parts), TOKENS=tokens, **launched(way)
        )
        across = triton.next_power_of_2(parts)
        add_up[(-(-n * m // SIZE),)](partial, out, n * m, parts, PARTS=across, SIZE=SIZE)

    values, cuts, _ = taken(cut, x)
    way = quickest(("actmm", w.dtype, m, k, n), there, lambda one: launch(one, values, cuts), x)
    last = cut, x

    def run(x: Tensor, found: Active | None = None) -> Tensor:
        nonlocal last
        last = cut if found is None else found, x
        values, cuts, beside = taken(*last)
        launch(way, values, cuts)
        return (out if beside is None else out.add_(beside.t())).t()

    return Prepared(
        run,
        executed=issued(way, tokens, m, k, n),
        values=lambda: int(reaching(*last).any(1).sum()) * m * w.itemsize,
        metadata=0,
        holds=(rows, cut, partial, out),
        note={"way": way, "parts": parts_of(way)},
    )


def up(w: Tensor, cut: Tensor | Active, x: Tensor, g: Tensor) -> Prepared:
    """g * (w x), of g what reaches its cut, or what is chosen in each call."""
    (m, k), n = w.shape, x.shape[1]
    out, tokens = torch.empty_like(g), tile_of(n)

    def launch(way: Way, x: Tensor, g: Tensor, cuts: Tensor) -> None:
        multiply_up[(-(-m // way.tile[0]), -(-n // tokens))](
            *(w, cuts, x, g, out, m, k, n), TOKENS=tokens, **launched(way)
        )

    there = UP_ONE if n == 1 else UP[w.itemsize]
    values, cuts, _ = taken(cut, g)
    way = quickest(("actmm_up", w.dtype, m, k, n), there, lambda one: launch(one, x, values, cuts), x)
    last = cut, g

    def run(x: Tensor, g: Tensor, found: Active | None = None) -> Tensor:
        nonlocal last
        last = cut if found is None else found, g
        values, cuts, beside = taken(*last)
        launch(way, x, values, cuts)
        return out if beside is None else out.add_(beside)

    def executed() -> int:
        """Tiles of neurons of which none counts are left out."""
        outputs = way.tile[0]
        live = torch.nn.functional.pad(reaching(*last), (0, -n % tokens, 0, -m % outputs))
        tiles = live.view(-1, outputs, live.shape[1] // tokens, tokens).any(3).any(1).sum()
        return int(tiles) * issued(way, tokens, outputs, k, tokens)

    return Prepared(
        run,
        executed=executed,
        values=lambda: int(reaching(*last).any(1).sum()) * k * w.itemsize,
        metadata=0,
        holds=(w, cut, out),
        note={"way": way},
    )
