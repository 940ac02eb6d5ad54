"""Block rows in cuSPARSE: its one algorithm for them, square blocks in row order, `b` in rows.

Sums are float32. As large as the pattern's own blocks where they are square, else 16 x 16. Ragged sizes are
padded; `b` is then copied into a padded buffer in each call. Bad at: patterns without blocks, whose few
nonzeros fill many of them; oblong blocks.
"""

from dataclasses import replace

from suite.cuda import cusparse
from suite.cuda.cusparse import BSR_ALG1, ROWS
from suite.cuda.terms import too_old
from suite.formats.bsr import block_of, bsr, unfit
from suite.formats.padded import padded
from suite.kernel import Prepared, kernel


def refuse(case, device):
    return [*unfit(case, square=True), *too_old(case, device), *cusparse.missing()]


def blocks_of(a, height, width, device):
    """`a` in blocks, converted on the host and moved to the GPU."""
    made = bsr(a.to("cpu"), height, width)
    parts = {name: getattr(made, name).to(device) for name in ("starts", "columns", "values")}
    return replace(made, **parts)


@kernel(op="spmm", on="cuda", dtypes=("float32", "bfloat16", "float16"), refuse=refuse)
def spmm_bsr_cusparse(a, b):
    """cuSPARSE BSR_ALG1."""
    m, n = a.shape[0], b.shape[1]
    height, width = block_of(a.pattern, square=True)
    held = blocks_of(a, height, width, b.device)
    rows, columns = held.padded
    wider, wide = padded(b, columns, n)
    out = b.new_empty(rows, n)
    multiply, workspace = cusparse.product(cusparse.bsr(held), wider(b), out, ROWS, BSR_ALG1)

    def run(b):
        multiply(wider(b))
        return out[:m]

    return Prepared(
        run,
        executed=2 * held.values.numel() * n,
        values=held.value_bytes,
        metadata=held.metadata_bytes,
        holds=(held, wide, workspace, out),
        note={"algorithm": f"{height}x{width}", "indices": "int32"},
    )
