"""Popular: the neurons that mattered most in a sample, whatever a token is."""

import torch

from suite.activations import budget, without
from suite.ops.actmm import norms, sample
from suite.selector import Keeping, selector


@selector(ops=("actmm", "actmm_up"), control="habit")
def popular(case, w):
    """The neurons that most other tokens need, for every token."""
    needed = sample(case).norm(dim=0) * norms(case, w).cpu()
    silent = torch.ones(len(needed), 1, dtype=torch.bool)
    silent[needed.topk(budget(case)).indices] = False
    silent = silent.to(w.device)
    return Keeping(lambda *live: without(live[-1], silent), (silent,))
