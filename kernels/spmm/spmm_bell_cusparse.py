"""Blocked ELL in cuSPARSE: rows of equally many square blocks, multiplied by tensor cores.

As large as the pattern's own blocks where they are square, else 16 x 16; the library is best at powers of
two, from 64 on. What it computes for blocks that only pad it does not say. float32 runs on tensor cores too,
hence as TF32, so only numbers that TF32 holds are taken. Ragged sizes are padded; `b` is then copied into a
padded buffer in each call. Bad at: rows of blocks that are not equally full; patterns without blocks.
"""

from suite.cuda import cusparse
from suite.cuda.cusparse import BLOCKED_ELL_ALG1, ROWS
from suite.formats.bell import NONE, bell
from suite.formats.bsr import block_of, unfit
from suite.formats.padded import padded
from suite.kernel import Prepared, kernel


def refuse(case, device):
    return [*unfit(case, square=True), *cusparse.missing()]


@kernel(op="spmm", on="cuda", dtypes=("bfloat16", "float16", "tfloat32"), isa=("sm_80",), refuse=refuse)
def spmm_bell_cusparse(a, b):
    """cuSPARSE Blocked-ELL on tensor cores."""
    m, n = a.shape[0], b.shape[1]
    held = bell(a.to("cpu"), block_of(a.pattern, square=True)[0])
    padding = float((held.columns == NONE).double().mean())
    held = held.to(b.device)
    rows, columns = held.padded
    wider, wide = padded(b, columns, n)
    out = b.new_empty(rows, n)
    multiply, workspace = cusparse.product(cusparse.blocked_ell(held), wider(b), out, ROWS, BLOCKED_ELL_ALG1)

    def run(b):
        multiply(wider(b))
        return out[:m]

    return Prepared(
        run,
        executed=None,
        values=held.values.nbytes,
        metadata=held.columns.nbytes,
        holds=(held, wide, workspace, out),
        note={"algorithm": f"{held.size}x{held.size}", "padding": f"{padding:.0%}", "indices": "int32"},
    )
