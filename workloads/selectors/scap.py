"""SCAP: activations less the number around which they crowd; a bias makes up for it.

What was near that number is then near 0, and may be left out. Bad at: activations that crowd around 0 anyhow,
to which it adds a subtraction and a sum.
"""

import torch

from suite.activations import Active
from suite.ops.actmm import learned, sample
from suite.selector import Keeping, selector

FEW = 32  # tokens that say where activations crowd


def mode(crowd):
    """Where numbers crowd: the half of them that is closest together, of that the closest half, and so on.

    Bickel and Fruehwirth, "On a Fast, Robust Estimator of the Mode", CSDA 2006.
    """
    crowd = crowd.flatten().sort().values
    while len(crowd) > 2:
        half = (len(crowd) + 1) // 2
        first = int((crowd[half - 1 :] - crowd[: len(crowd) - half + 1]).argmin())
        crowd = crowd[first : first + half]
    return crowd.mean()


@selector(ops=("actmm",), ids=("scap",))
def scap(case, w):
    """Activations whose distance from their mode is above a quantile of a sample; a bias for the mode (SCAP).

    Chua et al., "Post-Training Statistical Calibration for Higher Activation Sparsity", ENLSP 2024.
    """
    tokens = sample(case)
    centre = case.cast(mode(tokens[:FEW]))
    cut = learned(case, tokens - centre.float(), torch.ones(tokens.shape[1])).to(w.device)
    bias = (w.float().sum(1, keepdim=True) * float(centre)).to(w.dtype)
    centre = centre.to(w.device)
    return Keeping(lambda x: Active(x - centre, cut, bias, flops=x.numel()), (cut, bias, centre))
