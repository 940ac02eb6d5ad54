"""Quantized: weights as codes of few bits with a scale for each group along a row; activations are bfloat16.

A weight is its code times its group's scale. Scales have so few significant bits that the product is a
bfloat16: what the codes stand for can be multiplied by kernels of either kind, and both have one answer.
Scales of GPTQ (arXiv 2210.17323) and GQSA (arXiv 2412.17560) have 11, those of NVFP4 have 4.
"""

from collections.abc import Callable

import numpy as np
import torch

from suite.case import QUANTIZED, Case
from suite.sparse import Sparse, with_values

GROUP = 32  # weights side by side in a row
SIGNIFICANT = 5  # bits of a scale that are used: a code has 3 or is a power of two, bfloat16 has 8
LEAST = torch.finfo(torch.bfloat16).tiny  # a scale: below it bfloat16 has fewer bits


def reach(bits: int) -> int:
    """Codes are whole numbers from minus this on, and less than this."""
    return 1 << (bits - 1)


def as_stored(case: Case, a: Sparse) -> Sparse:
    """`a` with its values as the case's dtype has them; its nonzeros stay nonzeros.

    Of few bits, the scale of a group is the least that reaches all of it.
    """
    bits = QUANTIZED.get(case.dtype)
    if not bits:
        return with_values(a, case.cast(a.values))
    values, firsts = a.values.float(), groups_of(a)
    if not len(firsts):
        return with_values(a, values.to(case.torch_dtype))
    least, most = (torch.from_numpy(end.reduceat(values.numpy(), firsts)) for end in (np.minimum, np.maximum))
    reaching = torch.maximum(-least / reach(bits), most / (reach(bits) - 1)).clamp(min=LEAST)
    scale = few_digits(reaching, torch.ceil)
    scale = scale.repeat_interleave(torch.from_numpy(np.diff(firsts, append=a.nonzeros)))
    code = (values / scale).round().clamp(-reach(bits), reach(bits) - 1)
    code = code.where((code != 0) | (values == 0), values.sign())
    return with_values(a, (code * scale).to(case.torch_dtype))


def groups_of(a: Sparse) -> np.ndarray:
    """The first nonzero of each group that holds any."""
    rows = np.repeat(np.arange(a.shape[0], dtype=np.int64), a.row_lengths.numpy())
    place = rows * -(-a.shape[1] // GROUP) + a.columns.numpy() // GROUP
    return np.flatnonzero(np.diff(place, prepend=-1))


def few_digits(scale: torch.Tensor, to_whole: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Numbers of as many bits as a scale has; `to_whole` says which of the two at hand."""
    mantissa, exponent = torch.frexp(scale)
    return torch.ldexp(to_whole(mantissa * 2**SIGNIFICANT) / 2**SIGNIFICANT, exponent)
