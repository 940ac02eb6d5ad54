"""Row-wise product in C++: the rows of `b` that a row of `a` names are merged at once; no product is stored.

A row's products meet in a hash table of four slots for each, open addressing with linear probing, or, where
the columns that they reach are at most sixteen times as many, in a window that has a sum for every column
between the first and the last. What meets in a window comes out in order, what meets in a table does not.

The answer grows into memory that is kept from call to call. It is as large as c, and twice that with several
threads, which put chunks down in the order in which they are done and move them afterwards.

Bad at: products that hardly ever meet, where each costs a slot of its own; one row with most of the work,
which is never shared. By rows: Gustavson, "Two Fast Algorithms for Sparse Matrices", TOMS 1978; by hashing:
Shivdikar, "SMASH: Sparse Matrix Atomic Scratchpad Hashing", arXiv 2105.14156; window or table: Nagasaka et
al., "Performance optimization, modeling and analysis of sparse matrix-matrix products on multi-core and
many-core processors", Parallel Computing 2019.
"""

from ctypes import c_int, c_int64
from pathlib import Path

import torch

from suite import native
from suite.kernel import Prepared, kernel
from suite.native import LIVE

ENTRY = 8  # bytes of an operand's nonzero: column and value


def prepare(a, b, library):
    m, p, threads = a.shape[0], b.shape[1], torch.get_num_threads()
    desk_bytes = native.bind(library.desk_bytes, p, returns=c_int64)()
    desks = torch.empty(threads * desk_bytes, dtype=torch.uint8)
    native.bind(library.clear, desks, p, c_int(threads))()
    starts, products, places = torch.empty(3, m + 1, dtype=torch.int64)
    told = torch.zeros(3, dtype=torch.int64)
    columns, values = torch.empty(0, dtype=torch.int32), torch.empty(0)
    staged = torch.empty(0, dtype=torch.int32), torch.empty(0)
    growing = (columns, values, *staged) if threads > 1 else (columns, values)
    note = {}

    operand = LIVE, LIVE, LIVE
    answer = starts, LIVE, LIVE, LIVE, LIVE, LIVE
    after = (m, p, products, places, desks, told, c_int(threads))
    multiply = native.bind(library.spgemm, *operand, *operand, *answer, *after, returns=c_int64)

    def run(a, b):
        given = a.starts, a.columns, a.values, b.starts, b.columns, b.values
        while (nonzeros := multiply(*given, columns, values, *staged, columns.numel())) > columns.numel():
            for one in growing:
                one.resize_(nonzeros)
        multiplications, hashed, collisions = told.tolist()
        note.update(
            hashed=f"{hashed / max(1, multiplications):.0%}",
            collisions=collisions,
            compression=f"{multiplications / max(1, nonzeros):.3g}",
            fetched=ENTRY * (a.nonzeros + multiplications),
            intermediate=0,
        )
        return starts, columns[:nonzeros], values[:nonzeros]

    return Prepared(
        run,
        executed=lambda: 2 * int(told[0]),
        values=0,
        metadata=0,
        holds=(desks, starts, products, places, told, columns, values, *staged),
        note=note,
    )


@kernel(op="spgemm", on="cpu", refuse=lambda case, device: native.missing(), ids=("smash",))
def spgemm_hash(a, b):
    """Row-wise product with hash accumulators, in C++."""
    return prepare(a, b, native.load(Path(__file__).with_suffix(".cpp"), "-ffp-contract=off"))
