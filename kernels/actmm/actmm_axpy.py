"""Rows of neurons in C++: the weight is stored neuron by neuron, and those that count are added up.

What a silent neuron would be multiplied with is never read, and what is read is long stretches: with few
tokens a call takes as long as memory needs for the neurons that some token uses. Groups of four or eight
rows are added at once to sums that stay in L1 or L2, while what comes next is on its way.

Bad at: many tokens. What they use together is soon all of it, and each row is multiplied for every token.

Liu et al., "Training-Free Activation Sparsity in Large Language Models", ICLR 2025, do so on GPUs.
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


def prepare(w, cut, x, *flags):
    library = native.load(Path(__file__).with_suffix(".cpp"), *flags)
    (m, k), n, threads = w.shape, x.shape[1], torch.get_num_threads()
    stride = -(-m * w.itemsize // LINE) * LINE // w.itemsize
    rows = w.new_zeros(k, stride)
    rows[:, :m] = w.t()
    words = torch.empty(-(-k // WORD), dtype=torch.int64)
    group = library.group(n)
    most = -(-k // group) * group
    neurons, packed = torch.empty(most, dtype=torch.int32), torch.empty(most, n)
    sums, out = torch.empty(threads, n, stride), w.new_empty(n, m)
    multiply = native.bind(
        library[f"actmm_{str(w.dtype).removeprefix('torch.')}"],
        *(rows, native.LIVE, native.LIVE, out, m, k, n, stride, words, neurons, packed, sums, threads),
        returns=c_int64,
    )
    read = 0

    def run(x, found=None):
        nonlocal read
        x, cuts, beside = taken(cut if found is None else found, x)
        read = multiply(cuts, x)
        return (out if beside is None else out.add_(beside.t())).t()

    return Prepared(
        run,
        executed=lambda: 2 * -(-read // group) * group * stride * n,
        values=lambda: read * stride * w.itemsize,
        metadata=0,
        holds=(rows, cut, words, neurons, packed, sums, out),
        note={"rows": group, "lanes": library.lanes()},
    )


@kernel(
    op="actmm",
    on="cpu",
    dtypes=("float32", "bfloat16"),
    refuse=refuse,
    chooses=True,
    ids=("teal", "chess", "cats", "scap", "wina", "polar-sparsity"),
)
def actmm_axpy(w, cut, x):
    """The rows of the neurons that count, added up, in C++."""
    return prepare(w, cut, x)
