"""TEAL: one cut for all channels, from a quantile of a sample: a call does no more than compare.

Bad at: tokens unlike the sample, of which it keeps more or fewer; channels of unlike weights, which magnitude
says nothing of.
"""

import torch

from suite.activations import Active
from suite.ops.actmm import learned, sample
from suite.selector import Keeping, selector


def even(case, w):
    """One cut for all neurons, as a select."""
    tokens = sample(case)
    cut = learned(case, tokens, torch.ones(tokens.shape[1])).to(w.device)
    return Keeping(lambda *live: Active(live[-1], cut), (cut,))


@selector(ops=("actmm",), ids=("teal",))
def teal(case, w):
    """Activations above a quantile of their magnitudes in a sample (TEAL).

    Liu et al., "Training-Free Activation Sparsity in Large Language Models", ICLR 2025; one layer, so there
    is no sharing of sparsity among layers here.
    """
    return even(case, w)
