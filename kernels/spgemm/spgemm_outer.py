"""Outer products in C++: a column of `a` meets one row of `b`, so each nonzero is fetched once and no more.

All products are stored, by rows of c. A short row is then merged out of the runs that it came in, two by two,
a long one sorted, and what falls together is added. `a` is brought into columns in each call.

Bad at: many products for each nonzero of c, for all of them go to memory and back. Refused where they would
not fit. Pal et al., "OuterSPACE: An Outer Product based Sparse Matrix Multiplication Accelerator", HPCA 2018.
"""

from ctypes import c_int, c_int64
from pathlib import Path

import torch

from suite import native
from suite.formats.dense import MOST, gib
from suite.kernel import Prepared, Refused, kernel
from suite.native import LIVE
from suite.ops.spgemm import multiplications

ENTRY = 8  # bytes of an index with a value
RUNS = 1024  # at most, of a row that is merged run by run, as in the source


@kernel(op="spgemm", on="cpu", refuse=lambda case, device: native.missing(), ids=("smash",))
def spgemm_outer(a, b):
    """Outer products, stored and merged, in C++."""
    if (size := ENTRY * multiplications(a, b)) > MOST:
        raise Refused(f"stores every product, which takes {gib(size)}; the limit is {gib(MOST)}")
    (m, k), p, threads = a.shape, b.shape[1], torch.get_num_threads()
    library = native.load(Path(__file__).with_suffix(".cpp"))

    def entries():
        return torch.empty(0, dtype=torch.int32), torch.empty(0)

    across, products, spare, answer = (
        (torch.empty(k + 1, dtype=torch.int32), *entries()),
        entries(),
        entries(),
        entries(),
    )
    places, ends, starts = torch.empty(3, m + 1, dtype=torch.int64)
    runs, longest = torch.empty(threads, RUNS, dtype=torch.int32), torch.empty(1, dtype=torch.int64)
    note = {}

    operand, grown, team = (LIVE, LIVE, LIVE), (LIVE, LIVE), c_int(threads)
    count = native.bind(library.count, *operand, places, longest, m, returns=c_int64)
    given = (*operand, *operand, *operand, places, ends, *grown, m, k, team)
    multiply = native.bind(library.multiply, *given)
    given = (places, *grown, starts, *grown, runs, LIVE, m, p, team)
    merge = native.bind(library.merge, *given, returns=c_int64)
    place = native.bind(library.place, places, *grown, starts, *grown, m, team)

    def resize(tensors, size):
        for one in tensors:
            one.resize_(size)

    def run(a, b):
        left, right = (a.starts, a.columns, a.values), (b.starts, b.columns, b.values)
        stored = count(a.starts, a.columns, b.starts)
        most = int(longest)
        resize(products, stored)
        resize(across[1:], a.nonzeros)
        resize(spare, threads * most)
        multiply(*left, *right, *across, *products)
        resize(answer, merge(*products, *spare, most))
        place(*products, *answer)
        note.update(
            multiplications=stored, fetched=ENTRY * (a.nonzeros + b.nonzeros), intermediate=ENTRY * stored
        )
        return starts, *answer

    return Prepared(
        run,
        executed=lambda: 2 * note["multiplications"],
        values=0,
        metadata=0,
        holds=(*across, *products, *spare, *answer, places, ends, starts, runs, longest),
        note=note,
    )
