"""Inner products in C++: every row of `a` meets every column of `b`, into which `b` is brought in each call.

Bitmaps say which pairs have something in common, 512 positions at a time. For those, the column is multiplied
with the row, zeros in place. Nothing is stored beside c, but every row is fetched for every column: where
nonzeros are few, most pairs are looked at in vain.

Bad at: all but small or half-full matrices. Refused where looking at the pairs would take seconds.
"""

from ctypes import c_int, c_int64
from pathlib import Path

import torch

from suite import native
from suite.formats.dense import MOST, gib
from suite.kernel import Prepared, kernel
from suite.native import LIVE

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
    words_for = native.bind(library.words_for, LIVE, returns=c_int64)
    bits = torch.empty(p, words_for(k), dtype=torch.int64)
    c_bits = torch.empty(m, words_for(p), dtype=torch.int64)
    desk_bytes = native.bind(library.desk_bytes, k, returns=c_int64)()
    desks = torch.zeros(threads * desk_bytes, dtype=torch.uint8)
    across = torch.empty(p + 1, dtype=torch.int32), torch.empty(0, dtype=torch.int32), torch.empty(0)
    starts, columns, values = (
        torch.empty(m + 1, dtype=torch.int64),
        torch.empty(0, dtype=torch.int32),
        torch.empty(0),
    )
    blocks = torch.zeros(1, dtype=torch.int64)
    note = {}

    operand, team = (LIVE, LIVE, LIVE), c_int(threads)
    turn = native.bind(library.columns, *operand, *operand, bits, k, p, team)
    given = (*operand, bits, c_bits, starts, desks, blocks, m, k, p, team)
    symbolic = native.bind(library.symbolic, *given, returns=c_int64)
    given = (*operand, *operand, c_bits, starts, LIVE, LIVE, desks, m, k, p, team)
    numeric = native.bind(library.numeric, *given, returns=c_int64)

    def run(a, b):
        left, right = (a.starts, a.columns, a.values), (b.starts, b.columns, b.values)
        for one in across[1:]:
            one.resize_(b.nonzeros)
        turn(*right, *across)
        found = symbolic(*left)
        for one in (columns, values):
            one.resize_(found)
        multiplications = numeric(*left, *across, columns, values)
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
