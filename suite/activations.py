"""Activations: which of them count where that is chosen at run time, and how a budget of them is spent.

`actmm` takes a cut for each neuron: an activation counts where its magnitude reaches it. A selector hands
over both, cuts and activations, in every call, as an Active. It finds them in one of two ways:

    cuts    beforehand, from a sample: what a call keeps is then on average what was asked for, and looking
            at activations is no more than the comparison that a kernel makes anyway
    best    in each call, so many of each token: exactly what was asked for, for the price of finding them

A sample is [tokens, neurons]; activations of a call are [neurons, tokens].
"""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from suite.case import Case
from suite.op import OPS
from suite.pattern import rounded


@dataclass(frozen=True, eq=False)
class Active:
    """Activations that count, in place of a case's own: those of `values` that reach their cut.

    values: [neurons, n], in the memory order of the case's own; 0 where they were left out, or less a centre.
    cut: [neurons].
    beside: [m, n] or [m, 1], what is added to the answer in place of what was left out; None: nothing.
    flops: what finding it took; read: bytes of what the selector keeps that were read for it.
    """

    values: Tensor
    cut: Tensor
    beside: Tensor | None = None
    flops: int = 0
    read: int = 0

    def to(self, device: str | torch.device) -> "Active":
        """On a device."""
        return self._each(lambda one: one.to(device))

    def clone(self) -> "Active":
        """A copy in memory of its own."""
        return self._each(torch.clone)

    def _each(self, change) -> "Active":
        parts = {one.name: getattr(self, one.name) for one in fields(self)}
        return replace(self, **{name: change(one) for name, one in parts.items() if isinstance(one, Tensor)})

    def thinned(self, every: int) -> tuple["Active", Tensor]:
        """As it is, for all of its answer is soon worked out; and that all of it stays."""
        return self, torch.ones(1, dtype=torch.bool)


def taken(cut: Tensor | Active, own: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Activations, their cuts and what is added to the answer: those that were chosen, or a case's own."""
    return (cut.values, cut.cut, cut.beside) if isinstance(cut, Active) else (own, cut, None)


def least(x: Tensor) -> Tensor:
    """Cuts [neurons] that every activation but 0 reaches."""
    return x.new_full((len(x),), torch.finfo(x.dtype).tiny * torch.finfo(x.dtype).eps)


def budget(case: Case) -> int:
    """How many activations of a token may count."""
    neurons, tokens = OPS[case.op].shape(case)
    return rounded(case.pattern.sparsity_of(neurons, tokens), neurons)


def cuts(sample: Tensor, norms: Tensor, sparsity: float) -> Tensor:
    """[neurons]: of |x| times the norm of its neuron, this share of a sample stays below, to one activation.

    With weights of unlike neurons uncorrelated, no other cuts of that share have a smaller error.
    """
    weighed = (sample.abs() * norms).flatten()
    kept = rounded(sparsity, len(weighed))
    if kept in (0, len(weighed)):
        return torch.full_like(norms, 0.0 if kept else torch.inf)
    return weighed.kthvalue(len(weighed) - kept + 1).values / norms


def best(x: Tensor, scores: Tensor, keep: int, **beside) -> Active:
    """Of each token the `keep` activations of the highest score; the others are 0.

    scores: [neurons, n], or [neurons, 1] where all tokens keep the same.
    """
    chosen = scores.t().topk(keep, 1, sorted=False).indices.t().expand(-1, x.shape[1])
    values = torch.zeros_like(x).scatter_(0, chosen, x.gather(0, chosen))
    return Active(values, least(x), **beside)


def without(x: Tensor, silent: Tensor, **beside) -> Active:
    """All activations but those that are silent, truths [neurons, n] or [neurons, 1]; these are 0."""
    return Active(x.clone().masked_fill_(silent, 0), least(x), **beside)


def union_law(keep: float, tokens: int) -> float:
    """The share of neurons that count for some token, if tokens choose independently and all are alike."""
    return 1 - (1 - keep) ** tokens


def reuse(counting: Tensor) -> float:
    """Of the neurons that count for a token, [neurons, tokens], the share that did so for the one before."""
    now, before = counting[:, 1:], counting[:, :-1]
    return float((now & before).sum()) / max(1, int(now.sum()))
