"""Attention in Triton's interpreter: `TRITON_INTERPRET=1 python tests/interpreter_attention.py`.

A line of JSON for each question: kernel, what was asked, and what is wrong with the answer, if anything.
"""

import json
from itertools import product

import torch
from interpreter import Interpreter, answered, begin

from suite.case import case
from suite.conformance import Trial, examine
from suite.kernel import KERNELS
from suite.op import make_operands
from suite.patterns.unstructured import Unstructured
from suite.selection import PADDING, from_map

NAMES = ("attention_block_triton", "attention_causal_block_triton")
DENSE = ("attention_flash_triton", "attention_causal_flash_triton")
TILES = ((64, 64), (64, 32), (32, 64), (16, 32))  # queries and keys of a tile, in blocks of 64
TWISTS = ("signed zeros", "empty rows", "one long row")
CONTROL = "another selection than was given"


def trials(one):
    """Small ones: masks of any density, odd ones, heads that share keys, and blocks of each size."""
    dtype = "float16"
    for sparsity, sizes in ((0.0, (2, 1, 64, 16, 16)), (0.5, (1, 1, 16, 16, 16)), (1.0, (3, 3, 64, 64, 32))):
        yield Trial(point(one, sparsity, dtype, sizes))
    yield Trial(point(one, 0.5, "float32", (4, 2, 128, 32, 32)))
    if one.name in NAMES:
        yield Trial(point(one, 0.5, "float32", (1, 1, 256, 128, 128)))
        for twist in TWISTS:
            yield Trial(point(one, 0.5, dtype, (2, 1, 64, 16, 16)), twist)


def point(one, sparsity, dtype, sizes):
    return case(one.op, Unstructured(sparsity), dtype, **dict(zip("hgndb", sizes, strict=True)))


def selection(of, heads, seed):
    """With keys of its own for so many heads: the case's, some of them no keys, and two blocks beside."""
    drawn = torch.Generator().manual_seed(seed)
    _, _, k, v = make_operands(of)
    across, size = of["n"] // of["b"], of["b"]
    more = (heads, 2 * size, of["d"])
    k, v = (
        torch.cat(
            (one.repeat_interleave(heads // len(one), 0), torch.randn(more, generator=drawn).to(one.dtype)), 1
        )
        for one in (k, v)
    )
    bias = torch.randn(heads, k.shape[1], generator=drawn)
    bias[:, : size + 5] = PADDING
    kept = torch.rand(of["h"], across, across + 2, generator=drawn) < 0.5
    if of.op == "attention_causal":
        kept[:, :, :across] &= torch.ones(across, across, dtype=torch.bool).tril()
        kept[:, :, :across] |= torch.eye(across, dtype=torch.bool)
    kept[:, :, -1] = True
    kept[:, -1, 0] = True
    return from_map(kept, of.pattern, k=k, v=v, bias=bias)


def chosen(one, flash, tile, heads, dtype, asked=1):
    """What is wrong with attention over a selection that was not there when the kernel was prepared.

    asked: the seed of the selection whose answer is expected.
    """
    flash.quickest = lambda key, ways, call, on: flash.Way(tile, 1, 1)
    of = point(one, 0.5, dtype, (2, 1, 256, 16, 64))
    _, *live = make_operands(of)
    made = one.prepare(selection(of, heads, seed=0), *live)
    answer = made.run(*live, selection(of, heads, seed=1))
    return answered(answer, of, (selection(of, heads, asked), *live))


def main():
    begin()
    from suite.kernels.attention import flash_triton as flash

    for one in (KERNELS[name] for name in (*NAMES, *DENSE)):
        for trial in trials(one):
            verdict = examine(one, trial, Interpreter())
            print(json.dumps((one.name, str(trial), verdict.note)), flush=True)
    for name, (tile, heads) in product(NAMES, zip(TILES, (2, 1, 1, 2), strict=True)):
        dtype = "float16" if heads == 1 else "float32"
        said = chosen(KERNELS[name], flash, tile, heads, dtype)
        print(json.dumps((name, f"a selection by {tile} for {heads} in {dtype}", said)), flush=True)
    for name in NAMES:
        said = chosen(KERNELS[name], flash, TILES[0], 1, "float32", asked=0)
        print(json.dumps((name, CONTROL, said)), flush=True)


if __name__ == "__main__":
    main()
