"""Compressed rows on a GPU: a few lanes take a row, each with its own columns of the answer in registers.

Rows come longest first, so that those of a warp are about as long and the longest begin early; rows of `b`
are loaded 16 bytes a lane, several ahead of their use; sums are in float32. These are ideas of Gale et al.,
"Sparse GPU Kernels for Deep Learning", SC 2020.

Bad at: few columns, where most of a load is not used; one row much longer than the others, which is not cut;
16 bits at moderate sparsity, for which there are tensor cores: a row of `b` is loaded for each nonzero.
"""

from pathlib import Path

from suite.cuda import launch, nvrtc
from suite.cuda.launch import LIVE, Launch
from suite.formats.bsr import whole
from suite.kernel import Prepared, kernel

SOURCE = Path(__file__).with_suffix(".cu")
THREADS = 128  # as in the source
COLUMNS = (8, 32, 64, 128)  # of a tile of the answer; in the narrowest each lane has one
LOAD = 16  # bytes


def shared_bytes(columns):
    """None: what rows share, their lanes pass round."""
    return 0


def refuse(case, device):
    return nvrtc.missing()


@kernel(
    op="spmm",
    on="cuda",
    dtypes=("float32", "bfloat16", "float16"),
    isa=("sm_80",),
    refuse=refuse,
    ids=("fast-sparse-convnets",),
)
def spmm_csr_cuda(a, b):
    """Compressed rows, several to a warp and longest first, in CUDA C++."""
    m, n, device = a.shape[0], b.shape[1], b.device
    a = a.to(device)
    order = a.row_lengths.argsort(descending=True, stable=True).int()
    starts, out = a.starts.long(), b.new_empty(m, n)
    columns = next((one for one in COLUMNS if n <= one), COLUMNS[-1])
    each = 1 if columns == COLUMNS[0] else LOAD // b.itemsize
    dtype = str(b.dtype).removeprefix("torch.")
    one = Launch(
        f"spmm_{dtype}_{columns}{'' if n % each == 0 else '_ragged'}",
        (-(-m * (columns // each) // THREADS), -(-n // columns), 1),
        THREADS,
        shared_bytes(columns),
        (starts, a.columns, a.values, order, LIVE, out, m, n),
    )
    multiply = launch.bind(SOURCE, device, one)

    def run(b):
        multiply(b)
        return out

    return Prepared(
        run,
        executed=2 * a.nonzeros * whole(n, columns),
        values=a.values.nbytes,
        metadata=starts.nbytes + a.columns.nbytes + order.nbytes,
        holds=(starts, a.columns, a.values, order, out),
        note={"algorithm": f"{THREADS * each // columns}x{columns}"},
    )
