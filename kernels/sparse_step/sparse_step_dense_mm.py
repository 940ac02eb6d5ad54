"""Dense: the weight with its zeros in place, three whole products, and of the gradient what is stored.

Activations are token-major, as torch's own linear layer has them. Values come from compressed rows and their
gradients go there, a small part of the time that training with a dense weight does without; in mlp_epoch that
is once an epoch. Bad at: every sparsity, that is the point.
"""

from ctypes import c_int
from pathlib import Path

import torch

from suite import native
from suite.formats.dense import too_large
from suite.kernel import Prepared, kernel


def refuse(case, device):
    return [*native.missing(), *too_large(case)]


def mm(left, right, out):
    """torch.mm, which is MKL's product where torch has MKL."""
    return torch.mm(left, right, out=out)


class Layer:
    """The products of a dense layer; it answers with memory of its own if `product` does."""

    def __init__(self, m, k, n, product):
        self.product = product
        self.y, self.dx, self.dw = torch.empty(n, m), torch.empty(n, k), torch.empty(m, k)
        self.x = None
        self.holds = (self.y, self.dx, self.dw)

    def forward(self, weight, x):
        """y; x is kept for the way back."""
        self.x = x
        return self.product(x.t(), weight.t(), self.y).t()

    def backward(self, weight, dy, further=True):
        """The gradients of x, if they go further, and of the weight."""
        dx = self.product(dy.t(), weight, self.dx).t() if further else None
        return dx, self.product(dy, self.x.t(), self.dw)


class Positions:
    """Where a pattern is stored: the way from its values to a dense matrix and back."""

    def __init__(self, pattern):
        library = native.load(Path(__file__).with_suffix(".cpp"))
        self.holds = pattern.starts, pattern.columns
        given = (*self.holds, native.LIVE, native.LIVE, *pattern.shape, c_int(torch.get_num_threads()))
        self.scatter = native.bind(library.scatter, *given)  # values, dense
        self.gather = native.bind(library.gather, *given)  # dense, values


def prepare(pattern, x, product, masked=False):
    (m, k), n = pattern.shape, x.shape[1]
    layer, positions = Layer(m, k, n, product), Positions(pattern)
    weight, dvalues = torch.zeros(m, k), torch.empty(pattern.nonzeros)
    mask = pattern.dense if masked else None
    used = torch.empty_like(weight) if masked else weight

    def run(values, x, dy):
        positions.scatter(values, weight)
        if mask is not None:
            torch.mul(weight, mask, out=used)
        y, (dx, dw) = layer.forward(used, x), layer.backward(used, dy)
        if mask is not None:
            dw.mul_(mask)
        positions.gather(dw, dvalues)
        return y, dx, dvalues

    return Prepared(
        run,
        executed=3 * 2 * m * k * n,
        values=weight.nbytes,
        metadata=mask.nbytes if mask is not None else 0,
        holds=(weight, used, dvalues, *layer.holds, *positions.holds, *([mask] if masked else [])),
        note={"algorithm": "masked"} if masked else {},
    )


@kernel(
    op="sparse_step",
    on="cpu",
    dtypes=("float32",),
    dense=True,
    refuse=refuse,
    live_order="columns",
)
def sparse_step_dense_mm(pattern, values, x, dy):
    """Three dense products by torch.mm."""
    return prepare(pattern, x, mm)
