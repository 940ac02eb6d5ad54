"""Blocks by MInference's Triton kernel: flash attention over listed blocks, as many for each row of a mask.

Rows that keep fewer are filled up with a block of keys behind all queries, which none of them sees; so keys
and values are copied in front of one in each call, and to every head that shares them, for it knows no shared
ones. How long the longest row is, the host has to know.

Bad at: rows of unlike lengths, which all cost what the longest does.
"""

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from math import sqrt

import torch

from suite.kernel import Prepared, Refused, kernel
from suite.selection import Selection

DTYPES = ("bfloat16", "float16")
ISA = ("sm_80",)
BLOCKS = (16, 32, 64, 128)  # tokens
SIZES = (16, 32, 64, 128)  # numbers of a head


def refuse(case, device):
    reasons = []
    if not find_spec("minference"):
        reasons.append("needs minference, which is not installed here: pip install minference")
    return reasons + [
        f"needs {name} to be one of {', '.join(map(str, taken))}, got {case[name]}"
        for name, taken in (("b", BLOCKS), ("d", SIZES))
        if case[name] not in taken
    ]


@cache
def attend():
    try:
        return import_module("minference.ops.block_sparse_flash_attention")._triton_block_sparse_attention
    except (ImportError, OSError, AttributeError) as failed:
        raise Refused(f"needs minference, whose kernel does not load here: {failed}") from None


def listed(a, heads):
    """The blocks of each row, then the one behind all: int32 [1, heads, rows of a head, most of a row]."""
    lengths = a.row_lengths.long()
    rows = torch.arange(a.shape[0], device=a.columns.device).repeat_interleave(lengths)
    within = torch.arange(len(rows), device=rows.device) - a.starts.long()[rows]
    index = torch.full((a.shape[0], int(lengths.max())), a.shape[1], dtype=torch.int32, device=rows.device)
    index[rows, within] = a.columns.int()
    return index.view(1, heads, -1, index.shape[1])


@kernel(op="attention_causal", on="cuda", dtypes=DTYPES, isa=ISA, refuse=refuse, chooses=True)
def attention_causal_block_minference(a, q, k, v):
    """MInference's block-sparse flash attention over the blocks a causal mask keeps."""
    (heads, n, d), groups = q.shape, len(k)
    b, call = n // a.shape[1], attend()
    if isinstance(a, Selection) and a.k is not None:
        raise Refused("takes no keys of a selector's own: which of them come later, it tells by their places")
    if int(a.row_lengths.min()) == 0:
        raise Refused("needs every block of queries to see something")
    behind = q.new_zeros(2, groups, heads // groups, n + b, d)
    length = torch.tensor([n], dtype=torch.int32, device=q.device)
    own = last = listed(a, heads)

    def run(q, k, v, found=None):
        nonlocal last
        last = own if found is None else listed(found, heads)
        for room, one in zip(behind, (k, v), strict=True):
            room[:, :, :n] = one[:, None]
        keys, values = behind.view(2, 1, heads, n + b, d)
        return call(q[None], keys, values, length, last, 1 / sqrt(d), b, b)[0]

    def executed():
        row = torch.arange(1, n // b + 1).clamp(max=last.shape[-1])
        return 4 * d * b * b * heads * int(row.sum())

    return Prepared(run, executed=executed, values=0, metadata=own.nbytes, holds=(behind, length, own))
