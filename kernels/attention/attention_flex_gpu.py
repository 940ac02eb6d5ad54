"""FlexAttention on a GPU: torch compiles a Triton kernel for the mask, which passes over its empty blocks.

Of several tiles the quickest is taken (max-autotune, without graphs, which are the instrument's business).
Blocks of which every key is seen are told apart: single keys are masked in a row's own block alone.

Bad at: the first call of a shape, which is compiled for a minute or so; it runs at the full extent alone, and
what it keeps cannot be had.
"""

import torch

from suite import native
from suite.cuda.terms import no_triton
from suite.kernel import Prepared, kernel

DTYPES = ("float32", "bfloat16", "float16")
ISA = ("sm_80",)
TILE, LEAST = 64, 16  # tokens of a tile, of which blocks are made; numbers of a head
MODE = "max-autotune-no-cudagraphs"


def refuse(case, device):
    reasons = [*native.missing(), *no_triton()]
    if case["d"] < LEAST:
        reasons.append(f"needs d of {LEAST} at least, got {case['d']}")
    return reasons


def listed(kept):
    """Of a map [heads, query blocks, key blocks]: how many a row keeps; their numbers, then all others."""
    order = kept.int().argsort(stable=True, descending=True)
    return kept.sum(-1, dtype=torch.int32)[None], order.int()[None]


def block_mask(a, heads, size, causal):
    """The mask as FlexAttention has it, and its arrays."""
    from torch.nn.attention.flex_attention import BlockMask

    kept = torch.zeros(a.shape, dtype=torch.bool, device=a.columns.device)
    rows = torch.repeat_interleave(torch.arange(a.shape[0], device=kept.device), a.row_lengths)
    kept[rows, a.columns.long()] = True
    kept = kept.view(heads, -1, a.shape[1])
    own = torch.eye(a.shape[1], dtype=torch.bool, device=kept.device) & causal
    arrays = (*listed(kept & own), *listed(kept & ~own))
    seen = (lambda b, h, i, j: i >= j) if causal else None
    return BlockMask.from_kv_blocks(*arrays, BLOCK_SIZE=size, mask_mod=seen), arrays


def prepare(a, q, k, causal):
    from torch.nn.attention.flex_attention import flex_attention

    mask, arrays = block_mask(a, len(q), q.shape[1] // a.shape[1], causal)
    torch._dynamo.reset()  # of a process's many shapes, each is compiled for itself
    compiled = torch.compile(flex_attention, dynamic=False, mode=MODE)
    shared = len(q) != len(k)

    def run(q, k, v):
        with torch.no_grad():
            return compiled(q[None], k[None], v[None], block_mask=mask, enable_gqa=shared)[0]

    metadata = sum(one.nbytes for one in arrays)
    return Prepared(run, values=0, metadata=metadata, holds=arrays, note={"compile": MODE}, hidden=True)


@kernel(
    op="attention",
    on="cuda",
    dtypes=DTYPES,
    isa=ISA,
    divides={"b": TILE},
    refuse=refuse,
    extents=("full",),
)
def attention_flex_gpu(a, q, k, v):
    """torch's flex_attention, compiled for a BlockMask on a GPU."""
    return prepare(a, q, k, causal=False)
