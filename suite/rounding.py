"""Rounding: the largest error it explains in an answer: that of the answer itself, and those of its sums.

A sum of n products errs by no more than about sqrt(n) u sum|a||b| when roundings are as good as random
(Higham and Mary, "A New Approach to Probabilistic Rounding Error Analysis", SISC 2019). The textbook
n u sum|a||b| would let an answer of zeros pass at large n.
"""

import torch
from torch import Tensor

ROUNDING = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
SUMS_IN = 2.0**-24  # products of 16-bit numbers are summed in float32
# Of 8-bit numbers tensor cores add 32 products at a time, to a sum of which they keep 14 bits and cut off the
# rest (DeepSeek-V3, arXiv 2412.19437, section 3.3.2). What is cut off adds up: n / 32 times up to 2^-13 of a
# sum that grows as sqrt(n). The other is what few products lose, lined up with the largest of them.
CUT_OFF, LINED_UP = 2.0**-19, 2.0**-13
SPREAD = 6.0  # standard deviations a sum of random roundings is allowed


def of_sums(
    expected: Tensor, counts: Tensor | int, terms: Tensor, dtype: torch.dtype, eight_bits: bool = False
) -> Tensor:
    """Of sums of `counts` products each, whose magnitudes add up to `terms`, rounded to `dtype` once."""
    roots = torch.as_tensor(counts).double().clamp(min=1).sqrt()
    each = CUT_OFF * roots + LINED_UP / roots if eight_bits else SUMS_IN * roots
    return once(expected, dtype) + SPREAD * each * terms


def once(expected: Tensor, dtype: torch.dtype) -> Tensor:
    """Of an answer whose sums are exact, rounded to `dtype` once."""
    return ROUNDING[dtype] * expected.abs() + torch.finfo(dtype).tiny


def of_product(expected: Tensor, where: Tensor, values: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """Of a sparse matrix times `b`, where nonzero `at` falls into the answer's row `where[at]`.

    sum|a||b| is bounded from above row by row and column by column, by Cauchy-Schwarz or by the largest |b|,
    whichever is less, for that costs no product. Whole numbers are added up exactly.
    """
    if not values.is_floating_point():
        return once(expected, dtype)
    magnitudes = values.double().abs()

    def summed(each: Tensor) -> Tensor:
        return torch.zeros(len(expected), dtype=torch.float64).index_add_(0, where, each)

    counts = torch.bincount(where, minlength=len(expected)).double()
    wide = b.double()
    by_largest = torch.outer(summed(magnitudes), wide.abs().amax(0))
    by_norms = torch.outer(summed(magnitudes**2).sqrt(), wide.norm(dim=0))
    terms, eight_bits = torch.minimum(by_largest, by_norms), values.itemsize == 1
    return of_sums(expected, counts.unsqueeze(1), terms, dtype, eight_bits)
