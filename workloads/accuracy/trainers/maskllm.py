"""MaskLLM: the best N:M mask learned by the loss, the weights frozen.

Fang et al., "MaskLLM: Learnable Semi-Structured Sparsity for Large Language Models", NeurIPS 2024. Each group
of M weights has a logit for every way to keep N of them: six for 2:4. A step draws a pattern softly, by
Gumbel-Softmax, sees the loss with weights times that, and moves the logits. Cooling makes the draws harder;
at the end the likeliest pattern stays. The mask of the method's criterion is where the logits begin.
"""

from itertools import combinations

import torch
from torch.nn.functional import one_hot

from suite.kernel import Refused
from suite.method import trainer
from suite.patterns.n_of_m import NofM

MOST = 100  # ways; of 4:8 there are 70, of 8:16 12,870
PRIOR = 2.0  # logit of a pattern for each place that it shares with the criterion's mask
RATE = 0.1
WARM, COLD = 2.0, 0.2  # temperatures, first and last


@trainer(
    after=("magnitude-uniform",),
    patterns=(NofM,),
    training="mask",
    extents=("full",),
    tuning_runs=1,
    ids=("maskllm",),
)
def maskllm(sparsifier):
    """Learn which N of M weights to keep; the weights stay as they are."""
    sparsifier.patterns, masks = sparsifier.chosen(sparsifier.pattern)
    learned(sparsifier, {name: Choice(sparsifier.pattern, mask) for name, mask in masks.items()})


def learned(sparsifier, choices):
    """Let the loss move the logits of each layer's choice, and take the likeliest masks."""
    weights = {name: layer.weight.clone() for name, layer in sparsifier.layers.items()}
    logits = [one.logits for one in choices.values()]
    for done in sparsifier.schedule(1.0, logits, RATE):
        heat = WARM * (COLD / WARM) ** done
        drawn = {name: one.drawn(heat, sparsifier.generator) for name, one in choices.items()}
        found = sparsifier.gradients_at({name: weights[name] * soft.detach() for name, soft in drawn.items()})
        for one in logits:
            one.grad = None
        for name, soft in drawn.items():
            soft.backward(found[name] * weights[name])
        sparsifier.advance()
    sparsifier.use({name: one.likeliest() for name, one in choices.items()})


class Choice:
    """Of each group of a layer, which of the ways to keep N of M."""

    def __init__(self, pattern, mask):
        self.shape = mask.shape
        self.ways = ways(pattern)
        m, k = mask.shape
        short = -k % pattern.m
        places = torch.nn.functional.pad(mask.float(), (0, short)).view(m, -1, pattern.m)
        logits = PRIOR * places @ self.ways.mT
        if short:  # of the last group, only ways that keep as many as it can
            real = self.ways[:, : pattern.m - short].sum(1)
            logits[:, -1, real < min(pattern.n, pattern.m - short)] = -torch.inf
        self.logits = logits.requires_grad_()

    def drawn(self, heat, generator):
        """A soft mask: the mean of the ways by probabilities that a draw sharpens."""
        noise = -(-torch.rand(self.logits.shape, generator=generator).clamp(1e-9, 1 - 1e-7).log()).log()
        return self._mask(((self.logits + noise) / heat).softmax(2))

    def likeliest(self):
        return self._mask(one_hot(self.logits.detach().argmax(2), len(self.ways)).float()) > 0.5

    def _mask(self, chances):
        return (chances @ self.ways).flatten(1)[:, : self.shape[1]]


def ways(pattern):
    """All masks of one group, [ways, M]."""
    kept = list(combinations(range(pattern.m), pattern.n))
    if len(kept) > MOST:
        raise Refused(f"{pattern} has {len(kept)} ways to fill a group; up to {MOST} are learned")
    return torch.zeros(len(kept), pattern.m).scatter_(1, torch.tensor(kept), 1.0)
