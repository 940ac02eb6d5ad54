"""Compressed rows in torch: MKL's products forward and back, and torch's own sampled product.

The transpose is compressed rows too, its values picked anew in every step: torch's product with compressed
columns takes up to twelve times as long. Bad at: many samples, as MKL's sparse products are. The sampled
product allocates its answer.
"""

import warnings

import torch

from suite.formats.columns import columns
from suite.kernel import Prepared, kernel


def csr(starts, indices, values, shape):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the layout is in beta
        return torch.sparse_csr_tensor(starts, indices, values, size=shape, check_invariants=False)


class Layer:
    """The products of a layer whose pattern stays."""

    def __init__(self, pattern, n):
        m, k = pattern.shape
        turned = columns(pattern)
        self.places, self.turned = turned.places, torch.empty(pattern.nonzeros)
        self.starts, self.columns, self.shape = pattern.starts, pattern.columns, pattern.shape
        self.transpose = csr(turned.starts, turned.rows, self.turned, (k, m))
        self.y, self.dx, self.x = torch.empty(m, n), torch.empty(k, n), None
        self.executed = [2 * pattern.nonzeros * n] * 3
        indices = (self.starts, self.columns, turned.starts, turned.rows, self.places)
        self.metadata_bytes = sum(one.nbytes for one in indices)
        self.holds = (*indices, self.turned, self.y, self.dx)

    def forward(self, values, x):
        """y; x is kept for the way back."""
        self.x = x
        return torch.mm(csr(self.starts, self.columns, values, self.shape), x, out=self.y)

    def backward(self, values, dy, further=True):
        """The gradients of x, if they go further, and of the values."""
        if further:
            torch.index_select(values, 0, self.places, out=self.turned)
            torch.mm(self.transpose, dy, out=self.dx)
        mask = csr(self.starts, self.columns, values, self.shape)
        return self.dx, torch.sparse.sampled_addmm(mask, dy, self.x.t(), beta=0.0).values()


@kernel(op="sparse_step", on="cpu", dtypes=("float32",))
def sparse_step_csr_torch(pattern, values, x, dy):
    """torch CSR: mm twice, and sampled_addmm."""
    layer = Layer(pattern, x.shape[1])

    def run(values, x, dy):
        return layer.forward(values, x), *layer.backward(values, dy)

    return Prepared(
        run,
        executed=sum(layer.executed),
        values=layer.turned.nbytes,
        metadata=layer.metadata_bytes,
        holds=layer.holds,
    )
