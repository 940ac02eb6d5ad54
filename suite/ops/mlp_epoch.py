"""mlp_epoch: a sparse network trained from given values by one pass over the data, as an autoencoder.

Layers of k units stand one upon the other in an m x k pattern: rows l k to (l + 1) k are layer l, so there
are m / k of them. Data are `steps` batches of n samples of k numbers. Each step, with h the batch at first:

    h = softsign(W_l h)      in all layers but the last, which is linear
    loss = sum (h - batch)^2 / 2n
    V_l = MOMENTUM V_l + gradient of W_l at its stored positions, from V_l = 0
    W_l = W_l - RATE V_l

The answer is the loss of each step, and the values after the last. Softsign, z / (1 + |z|), has a derivative
without jumps: at a ReLU's a rounding may open or shut a gate, and no tolerance would hold. No biases.
"""

import torch
from torch import Tensor

from suite import rounding
from suite.case import Case
from suite.op import Op, Operands, generator, register
from suite.ops.sparse_step import objections
from suite.ops.spmm import rows_of
from suite.registry import Unusable
from suite.sparse import Sparse, with_values

RATE = 0.01
MOMENTUM = 0.9
TWICE = 2  # the error of an ordinary program that is no less right

Parts = tuple[Tensor, Tensor]


def around(case: Case, a: Sparse) -> Operands:
    """Values of variance one over the inputs of their unit, so that no layer swells; data standard normal."""
    (m, k), n, steps = a.shape, case["n"], case["steps"]
    if m % k or m < 2 * k:
        raise Unusable(f"{case}: m is {m}, {m / k:.3g} times k; give it two whole layers of k units or more.")
    values = a.values / a.row_lengths[rows_of(a)].sqrt()
    x = torch.randn(steps, k, n, generator=generator(case, 1))
    return with_values(a, torch.ones_like(values)), values.to(a.dtype), x.to(a.dtype)


def masked_dense(pattern: Sparse, values: Tensor, x: Tensor) -> Parts:
    """The epoch with zeros in place, in the dtype of its operands."""
    (m, k), (steps, _, n) = pattern.shape, x.shape
    layers = m // k
    at = rows_of(pattern), pattern.columns.long()
    mask, weights = torch.zeros(2, m, k, dtype=values.dtype)
    mask[at], weights[at] = 1, values
    velocity = torch.zeros_like(weights)
    gradient = torch.empty_like(weights)
    losses = torch.empty(steps, dtype=values.dtype)
    w, g = weights.view(layers, k, k), gradient.view(layers, k, k)
    for step, batch in enumerate(x):
        h = [batch]
        for layer in range(layers):
            z = w[layer] @ h[-1]
            h.append(z / (1 + z.abs()) if layer < layers - 1 else z)
        back = h[-1] - batch
        losses[step] = (back**2).sum() / (2 * n)
        back /= n
        for layer in reversed(range(layers)):
            torch.mm(back, h[layer].t(), out=g[layer])
            if layer:
                back = (w[layer].t() @ back) * (1 - h[layer].abs()) ** 2
        velocity.mul_(MOMENTUM).addcmul_(gradient, mask)
        weights.sub_(velocity, alpha=RATE)
    return losses, weights[at]


def reference(pattern: Sparse, values: Tensor, x: Tensor) -> Parts:
    """In float64."""
    return masked_dense(pattern, values.double(), x.double())


def allowed(case: Case, operands: Operands, expected: Parts) -> Parts:
    """What the last sums may cost, and twice the error of the masked dense program in the case's dtype.

    A chain has no bound that is of use; but what an ordinary program of the same dtype loses on these very
    operands, one that is as right loses too. Its largest error in a part holds for the whole part, for which
    element has it is chance.
    """
    losses, values = expected
    x = operands[2]
    ordinary = [
        TWICE * (mine - right).abs().max() if len(right) else torch.zeros(())
        for mine, right in zip(masked_dense(*operands), expected, strict=True)
    ]
    squares = losses + (x.double() ** 2).sum((1, 2)) / (2 * case["n"])
    largest = values.abs().max() if len(values) else values.sum()
    return (
        rounding.of_sums(losses, case["k"] * case["n"], squares, case.torch_dtype) + ordinary[0],
        rounding.of_sums(values, case["steps"] + 1, largest, case.torch_dtype) + ordinary[1],
    )


def twin(operands: Operands, expected: Parts, allowed: Parts) -> tuple[Operands, Parts, Parts]:
    """The samples of each batch reversed, and the first two layers' values negated: so is what they learn.

    The units between them answer with the other sign, which softsign keeps and the second layer takes back.
    """
    pattern, values, x = operands
    losses, learnt = expected
    signs = torch.where(rows_of(pattern) < 2 * pattern.shape[1], -1, 1)
    return (pattern, values * signs, x.flip(2)), (losses, learnt * signs), allowed


def products(case: Case, each: int, first: int) -> int:
    """FLOPs of an epoch with `each` weights, `first` of them in the first layer, which passes none back."""
    return 2 * case["n"] * case["steps"] * (3 * each - first)


def useful(case: Case, operands: Operands) -> int:
    """Three products with each nonzero; that for the input of the network is of no use."""
    pattern = operands[0]
    return products(case, pattern.nonzeros, int(pattern.starts[case["k"]]))


def live_bytes(case: Case, operands: Operands) -> int:
    """The values before and after, the data, the losses."""
    _, values, x = operands
    return 2 * values.nbytes + x.nbytes + case["steps"] * x.element_size()


MLP_EPOCH = register(
    Op(
        name="mlp_epoch",
        operands=("pattern", "values", "x"),
        live=(1, 2),
        sizes=("m", "k", "n", "steps"),
        around=around,
        reference=reference,
        allowed=allowed,
        twin=twin,
        sized=lambda pattern, values, x: (*pattern.shape, x.shape[2], x.shape[0]),
        objections=objections,
        nominal=lambda case, _: products(case, case["m"] * case["k"], case["k"] ** 2),
        useful=useful,
        least_values=lambda case, operands: 0,
        live_bytes=live_bytes,
        answers=("losses", "values"),
        about="epoch of a sparse network",
    )
)
