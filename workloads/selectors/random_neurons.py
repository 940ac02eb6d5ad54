"""Random neurons: as many of each token, drawn without looking."""

import torch

from suite.activations import budget, without
from suite.op import OPS
from suite.selector import Keeping, selector


@selector(ops=("actmm", "actmm_up"), control="luck")
def random_neurons(case, w):
    """Activations drawn once, without looking; what a selector finds beyond them, it found."""
    drawn = torch.Generator().manual_seed(case.seed)
    neurons, tokens = OPS[case.op].shape(case)
    order = torch.rand(tokens, neurons, generator=drawn).argsort(1).argsort(1).t()
    silent = (order >= budget(case)).to(w.device)
    return Keeping(lambda *live: without(live[-1], silent), (silent,))
