"""Blocks on AMX: what attention_block.py does with registers, with tiles of the processor.

Two tiles of keys times two of queries are worked on at a time. The softmax is left to registers.

Bad at: blocks of 16 tokens, which half fill the tiles of weights: refused; heads of fewer than 128 numbers,
where exponentials keep tiles waiting.
"""

from pathlib import Path

from suite import native
from suite.kernel import Refused, kernel
from suite.kernels.attention import attention_block

SOURCE = Path(__file__).with_suffix(".cpp")
FLAGS = ("-mamx-tile", "-mamx-bf16")
ISA = ("avx512f", "amx_tile", "amx_bf16")
LEAST = 32  # tokens of a block: pairs of keys fill a tile


def refuse(case, device):
    reasons = attention_block.refuse(case, device)
    if case["b"] < LEAST:
        reasons.append(f"needs blocks of b={LEAST} and more, got {case['b']}")
    return reasons


def load():
    """The source, if the system lets this process use tiles."""
    library = native.load(SOURCE, *FLAGS)
    if library.ask():
        raise Refused("the system does not let this process use AMX tiles; Linux does from 5.16 on")
    return library


@kernel(op="attention", on="cpu", dtypes=("bfloat16",), isa=ISA, refuse=refuse, chooses=True)
def attention_block_amx(a, q, k, v):
    """Flash attention over the blocks a mask keeps, on AMX tiles, in C++."""
    return attention_block.prepare(load(), a, q, k, causal=False)
