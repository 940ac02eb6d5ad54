"""Routing: which experts each token goes to, and in what order experts get them.

Routers take logits [n, experts] and give gates of the same shape: 0 where a token does not go. `top_k` and
`dispatch` are what kernels made of torch's products route by; they give the choices alone. Whatever gates a
router gives, their logarithms are logits of the same route, with their shares of a token's sum as gates.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from suite.sparse import Sparse


def most(route: Sparse) -> int:
    """The largest number of experts that a token of a route [experts, n] goes to."""
    return int(torch.bincount(route.columns.long(), minlength=1).max())


def touched(route: Sparse) -> int:
    """Experts that some token goes to."""
    return int((route.row_lengths > 0).sum())


def top_k(logits: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Gates and experts of each token, [n, top]: its highest logits and their softmax.

    A logit of minus infinity has a gate of 0, and a token of no others goes nowhere.
    """
    best, experts = logits.topk(top, -1)
    wide = best if best.dtype == torch.float64 else best.float()
    return wide.softmax(-1).nan_to_num(0.0).to(logits.dtype), experts


@dataclass(frozen=True)
class Dispatch:
    """The choices of all tokens, by expert: counts[expert] of them, with their tokens and gates.

    choices: their numbers, where each token has as many as it may have in a row.
    """

    counts: Tensor
    choices: Tensor
    tokens: Tensor
    gates: Tensor


def dispatch(logits: Tensor, top: int) -> Dispatch:
    """Choices sorted by expert, in the order of tokens; those with a gate of 0 are none."""
    gates, experts = top_k(logits, top)
    going = gates > 0
    choices = going.flatten().nonzero()[:, 0]
    experts, order = experts[going].sort(stable=True)
    counts = torch.bincount(experts, minlength=logits.shape[1])
    choices = choices[order]
    return Dispatch(counts, choices, choices // max(top, 1), gates[going][order])


def padded(going: Dispatch, capacity: int) -> Tensor:
    """Places of the choices where each expert has `capacity` rows."""
    counts = going.counts
    experts = torch.arange(len(counts), device=counts.device)
    gaps = experts * capacity - (counts.cumsum(0) - counts)
    return torch.arange(len(going.tokens), device=counts.device) + gaps.repeat_interleave(counts)


def to_logits(going: Dispatch, dgates: Tensor, out: Tensor) -> Tensor:
    """Gradients of the logits, in `out`, from those of the gates of the choices: back through the softmax."""
    experts = torch.arange(len(going.counts), device=out.device).repeat_interleave(going.counts)
    gates = going.gates.float()
    weighed = gates * dgates
    shared = weighed.new_zeros(len(out)).index_add_(0, going.tokens, weighed)
    out.zero_()[going.tokens, experts] = (weighed - gates * shared[going.tokens]).to(out.dtype)
    return out


def dense(logits: Tensor, top: int) -> Tensor:
    """The gates of top_k in place, [n, experts]."""
    gates, experts = top_k(logits, top)
    return torch.zeros_like(logits).scatter_(-1, experts, gates)


def top_p(logits: Tensor, share: float) -> Tensor:
    """The fewest experts that hold this share of a token's softmax, one at least; their gates sum to 1."""
    ordered, order = logits.softmax(-1).sort(-1, descending=True)
    kept = ordered * (ordered.cumsum(-1) - ordered < share)
    gates = torch.zeros_like(logits).scatter_(-1, order, kept)
    return gates / gates.sum(-1, keepdim=True)


def relu_norm(logits: Tensor, weight: Tensor, least: float = 1e-6) -> Tensor:
    """BlockFFN's: a ReLU, then the RMS norm of what is left. How many experts that are is up to the token."""
    positive = logits.relu()
    return positive * torch.rsqrt((positive**2).mean(-1, keepdim=True) + least) * weight


def expert_choice(logits: Tensor, tokens: int) -> Tensor:
    """Each expert takes so many tokens, those it is likeliest for; a token may be taken by none."""
    likely = logits.softmax(-1)
    best, chosen = likely.topk(tokens, 0)
    return torch.zeros_like(logits).scatter_(0, chosen, best)


def hashed(ids: Tensor, experts: int, top: int) -> Tensor:
    """`top` neighbours from a hash of each token's id on, alike: nothing is learnt (a control)."""
    first = ids * 2654435761 % 2**32 * experts // 2**32  # Knuth's multiplicative hash
    chosen = (first[:, None] + torch.arange(top)) % experts
    return torch.zeros(len(ids), experts).scatter_(-1, chosen, 1 / top)


def prototypes(logits: Tensor, groups: int) -> Tensor:
    """M6-T's: experts in so many groups of neighbours, and the best of each by the group's own softmax."""
    n, experts = logits.shape
    best, chosen = logits.view(n, groups, -1).softmax(-1).max(-1)
    firsts = torch.arange(groups) * (experts // groups)
    return torch.zeros_like(logits).scatter_(-1, chosen + firsts, best)


def within(gates: Tensor, rows: int) -> Tensor:
    """The gates of the first tokens of each expert, so many of them; those of later ones are 0: dropped."""
    return gates * ((gates > 0).cumsum(0) <= rows)


def coverage(experts: int, top: int, tokens: int) -> float:
    """How many experts so many tokens touch, expected of routes that are uniform and independent."""
    return experts * (1 - (1 - top / experts) ** tokens)
