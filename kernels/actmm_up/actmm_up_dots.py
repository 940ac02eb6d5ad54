"""Rows of neurons in C++: of the outputs that the gate lets through, each is a row times the activations.

The weight is stored as it is; rows that no token wants are never read. With few tokens a call takes as long
as memory needs for those that some token wants. Four rows are multiplied side by side while what comes next
is on its way.

Bad at: many tokens. What they want together is soon all of it, and sums across registers are for each token.

Lee et al., "CATS: Contextually-Aware Thresholding for Sparsity in Large Language Models", COLM 2024, do so on
GPUs.
"""

from ctypes import c_int64
from pathlib import Path

import torch

from suite import native
from suite.activations import taken
from suite.kernel import Prepared, kernel

WORD = 64  # neurons whose bits are in one word, as in the source
LINE = 64  # bytes, of which a row has a whole number


def refuse(case, device):
    return native.missing()


def prepare(w, cut, x, g, *flags):
    library = native.load(Path(__file__).with_suffix(".cpp"), *flags)
    (m, k), n, threads = w.shape, x.shape[1], torch.get_num_threads()
    stride = -(-k * w.itemsize // LINE) * LINE // w.itemsize
    rows = w.new_zeros(m, stride)
    rows[:, :k] = w
    words, neurons = torch.empty(-(-m // WORD), dtype=torch.int64), torch.empty(m, dtype=torch.int32)
    packed, out = torch.zeros(n, stride), w.new_empty(n, m)
    sums = torch.empty(threads, n, library.rows(), library.lanes())
    multiply = native.bind(
        library[f"actmm_up_{str(w.dtype).removeprefix('torch.')}"],
        *(rows, native.LIVE, native.LIVE, native.LIVE, out, m, k, n, stride),
        *(words, neurons, packed, sums, threads),
        returns=c_int64,
    )
    read = 0

    def run(x, g, found=None):
        nonlocal read
        g, cuts, beside = taken(cut if found is None else found, g)
        read = multiply(cuts, x, g)
        return (out if beside is None else out.add_(beside.t())).t()

    return Prepared(
        run,
        executed=lambda: 2 * read * stride * n,
        values=lambda: read * stride * w.itemsize,
        metadata=0,
        holds=(rows, cut, words, neurons, packed, sums, out),
        note={"lanes": library.lanes()},
    )


@kernel(
    op="actmm_up",
    on="cpu",
    dtypes=("float32", "bfloat16"),
    refuse=refuse,
    live_order="columns",
    chooses=True,
    ids=("cats", "chess", "lazy-neuron", "polar-sparsity"),
)
def actmm_up_dots(w, cut, x, g):
    """The rows of the neurons that count times the activations, in C++."""
    return prepare(w, cut, x, g)
