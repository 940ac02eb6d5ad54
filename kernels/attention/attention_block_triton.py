"""Blocks on a GPU: flash attention over the blocks that a mask keeps, in Triton. See flash_triton.py.

Tiles are a block or a part of one.

Bad at: blocks of 16 and 32 tokens, too few for the tensor cores to be the limit; few rows, or one far longer
than the others, for a row is the work of one multiprocessor. In float32 there are no tensor cores.
"""

from suite.cuda.terms import in_triton, no_triton
from suite.kernel import kernel

flash = in_triton("suite.kernels.attention.flash_triton")

DTYPES = ("float32", "bfloat16", "float16")
ISA = ("sm_80",)
BLOCKS = (16, 32, 64, 128)  # tokens
SIZES = (16, 32, 64, 128)  # numbers of a head


def refuse(case, device):
    return no_triton() + [
        f"needs {name} to be one of {', '.join(map(str, taken))}, got {case[name]}"
        for name, taken in (("b", BLOCKS), ("d", SIZES))
        if case[name] not in taken
    ]


@kernel(op="attention", on="cuda", dtypes=DTYPES, isa=ISA, refuse=refuse, chooses=True)
def attention_block_triton(a, q, k, v):
    """Flash attention over the blocks a mask keeps, in Triton."""
    return flash.prepare(a, q, k, v, causal=False)
