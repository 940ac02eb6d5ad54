"""Rounding: the largest error it explains in an answer: that of the answer itself, and those of its sums.

A sum of n products errs by no more than about sqrt(n) u sum|a||b| when roundings are as good as random
(Higham and Mary, "A New Approach to Probabilistic Rounding Error Analysis", SISC 2019). The textbook
n u sum|a||b| would let an answer of zeros pass at large n.
"""

import torch
from torch import Tensor

ROUNDING = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
SUMS_IN = 2.0**-24  # products of 16-bit numbers are summed in float32
SPREAD = 6.0  # standard deviations a sum of random roundings is allowed


def of_sums(expected: Tensor, counts: Tensor | int, terms: Tensor, dtype: torch.dtype) -> Tensor:
    """Of sums of `counts` products each, whose magnitudes add up to `terms`, rounded to `dtype` once."""
    sums = SPREAD * SUMS_IN * torch.as_tensor(counts).double().sqrt() * terms
    return ROUNDING[dtype] * expected.abs() + sums + torch.finfo(dtype).tiny


def of_product(expected: Tensor, where: Tensor, values: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """Of a sparse matrix times `b`, where nonzero `at` falls into the answer's row `where[at]`.

    sum|a||b| is bounded from above row by row and column by column, by Cauchy-Schwarz or by the largest |b|,
    whichever is less, for that costs no product.
    """
    magnitudes = values.double().abs()

    def summed(each: Tensor) -> Tensor:
        return torch.zeros(len(expected), dtype=torch.float64).index_add_(0, where, each)

    counts = torch.bincount(where, minlength=len(expected)).double()
    wide = b.double()
    by_largest = torch.outer(summed(magnitudes), wide.abs().amax(0))
    by_norms = torch.outer(summed(magnitudes**2).sqrt(), wide.norm(dim=0))
    return of_sums(expected, counts.unsqueeze(1), torch.minimum(by_largest, by_norms), dtype)
