"""Gates: rules by which a token asks experts, other than its highest logits.

Two of them are soft while they learn and hard once they have. Each of k trees leads a token to one of the
experts; a node sends it to the right by a smooth step of a linear function, so that at first every expert is
reached by a part, and each part learns. In a tree every node has a function of its own: Ibrahim et al.,
"COMET: Learning Cardinality Constrained Mixture of Experts with Trees and Local Search", KDD 2023. Where all
nodes of a level share one, an expert is found by a binary code: Hazimeh et al., "DSelect-k: Differentiable
Selection in the Mixture of Experts with Applications to Multi-Task Learning", NeurIPS 2021.

The papers press each tree towards one expert by an entropy in the loss. Here the step narrows as training
goes on, and is a hard one where the model is asked: at most k experts then, and no weight to tune.
"""

import torch
from torch import nn

from suite.formats import routing
from suite.workloads.accuracy.feed import Mixture

WIDE, NARROW = 1.0, 0.25  # of the step, first and last; what it is taken of begins at a deviation of 0.6


class Soft(Mixture):
    """A gate of `asked` trees, which learns for so many steps. How many experts there are is a power of two.

    Its router tells of each tree `decisions` numbers for its nodes and `weights` for what it counts.
    """

    def __init__(self, dim, experts, asked, steps, decisions, weights):
        super().__init__(experts, asked)
        self.router = nn.Linear(dim, asked * (decisions + weights))
        self.parts, self.steps, self.done = (decisions, weights), steps, 0

    def gated(self, x):
        told = self.router(x).unflatten(-1, (self.asked, -1))
        decided, weights = told.split(self.parts, -1)
        reached = leaves(self.nodes(smooth_step(decided, self.width)))
        self.done += self.training and torch.is_grad_enabled()
        return (self.scores(reached, weights).softmax(-1)[..., None] * reached).sum(-2)

    @property
    def width(self):
        """Of the step, as it is now."""
        return WIDE * (NARROW / WIDE) ** min(1.0, self.done / self.steps) if self.training else 0.0

    def nodes(self, right):
        """[..., experts - 1], from the top, of decisions."""
        raise NotImplementedError

    def scores(self, reached, weights):
        """[..., asked]: the logits of what each tree counts, where it reaches experts so far."""
        raise NotImplementedError

    def shares(self):
        """While it learns every expert is asked a little."""
        return (1.0, 1.0) if self.training else super().shares()


class Trees(Soft):
    """COMET's: every node decides by itself, and a tree counts by a weight of the leaf that it leads to."""

    def __init__(self, dim, experts, asked, steps):
        super().__init__(dim, experts, asked, steps, experts - 1, experts)

    def nodes(self, right):
        return right

    def scores(self, reached, weights):
        return (weights * reached).sum(-1)


class Codes(Soft):
    """DSelect-k's: a bit decides for all nodes of a level, and a code counts by a weight of its own."""

    def __init__(self, dim, experts, asked, steps):
        super().__init__(dim, experts, asked, steps, (experts - 1).bit_length(), 1)

    def nodes(self, right):
        return right.repeat_interleave(2 ** torch.arange(right.shape[-1]), -1)

    def scores(self, reached, weights):
        return weights[..., 0]


class Hashed(Mixture):
    """Nothing is learnt: a hash of the token's place says which experts, as one of a word does in a text."""

    def gated(self, x):
        gates = routing.hashed(torch.arange(x.shape[-2]), self.experts, self.asked)
        return gates.to(x).expand(*x.shape[:-1], -1)


def smooth_step(t, width):
    """0 up to -width / 2, 1 from width / 2 on, and between them the cubic without a kink; width 0: a step."""
    if not width:
        return (t > 0).to(t.dtype)
    t = (t / width).clamp(-0.5, 0.5)
    return 0.5 + t * (1.5 - 2 * t**2)


def leaves(right):
    """How far each leaf is reached, [..., leaves].

    right: of what each node gets, the share it sends there; nodes are from the top, level by level.
    """
    reached = torch.ones_like(right[..., :1])
    while (first := reached.shape[-1] - 1) < right.shape[-1]:
        nodes = right[..., first : 2 * first + 1]
        reached = torch.stack([reached * (1 - nodes), reached * nodes], -1).flatten(-2)
    return reached
