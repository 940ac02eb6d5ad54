"""Inner products in C++: every row of `a` meets every column of `b`, into which `b` is brought in each call.

Bitmaps say which pairs have something in common, 512 positions at a time. For those, the column is multiplied
with the row, zeros in place. Nothing is stored beside c, but every row is fetched for every column: where
nonzeros are few, most pairs are looked at in vain.

Bad at: all but small or half-full matrices. Refused where looking at the pairs would take seconds.
"""

import ctypes
from pathlib import Path

import torch

from suite import native
from suite.formats.dense import MOST, gib
from suite.kernel import Prepared, kernel

BLOCK = 512  # positions; a cache line of bits, as in the source
MOST_BLOCKS = 2**31  # pairs of them: a second or so on one core
LINE, ENTRY, VALUE = 64, 8, 4  # bytes of a block, of an index with a value, and of a value alone


def refuse(case, device):
    m, k, p = (case[size] for size in "mkp")
    reasons = native.missing()
    if (pairs := m * p * -(-k // BLOCK)) > MOST_BLOCKS:
        billions = f"{pairs / 1e9:,.1f} billion pairs of blocks"
        reasons.append(f"would look at {billions}; the limit is {MOST_BLOCKS / 1e9:.1f}")
    if (size := p * (k + m) // 8) > MOST:
        reasons.append(f"needs bitmaps, which take {gib(size)}; the limit is {gib(MOST)}")
    return reasons


@kernel(op="spgemm", on="cpu", refuse=refuse, ids=("smash",))
def spgemm_inner(a, b):
    """Inner products of rows and columns, found by bitmaps, in C++."""
    (m, k), p, threads = a.shape, b.shape[1], torch.get_num_threads()
    library = native.load(Path(__file__).with_suffix(".cpp"))
    for function in (library.words_for, library.desk_bytes, library.symbolic, library.numeric):
        function.restype = ctypes.c_int64
    m_, k_, p_ = map(ctypes.c_int64, (m, k, p))
    bits = torch.empty(p, library.words_for(k_), dtype=torch.int64)
    c_bits = torch.empty(m, library.words_for(p_), dtype=torch.int64)
    desks = torch.zeros(threads * library.desk_bytes(k_), dtype=torch.uint8)
    across = torch.empty(p + 1, dtype=torch.int32), torch.empty(0, dtype=torch.int32), torch.empty(0)
    starts, columns, values = (
        torch.empty(m + 1, dtype=torch.int64),
        torch.empty(0, dtype=torch.int32),
        torch.empty(0),
    )
    blocks = torch.zeros(1, dtype=torch.int64)
    note = {}

    def at(*tensors):
        return (ctypes.c_void_p(one.data_ptr()) for one in tensors)

    def run(a, b):
        left, right = (a.starts, a.columns, a.values), (b.starts, b.columns, b.values)
        for one in across[1:]:
            one.resize_(b.nonzeros)
        library.columns(*at(*right, *across, bits), k_, p_, threads)
        found = library.symbolic(*at(*left, bits, c_bits, starts, desks, blocks), m_, k_, p_, threads)
        for one in (columns, values):
            one.resize_(found)
        made = at(*left, *across, c_bits, starts, columns, values, desks)
        multiplications = library.numeric(*made, m_, k_, p_, threads)
        fetched = 2 * LINE * int(blocks) + (ENTRY + VALUE) * multiplications
        note.update(multiplications=multiplications, fetched=fetched, intermediate=0)
        return starts, columns, values

    return Prepared(
        run,
        executed=lambda: 2 * note["multiplications"],
        values=0,
        metadata=0,
        holds=(bits, c_bits, desks, *across, starts, columns, values, blocks),
        note=note,
    )
