"""Routers: routes as published rules make them, from logits that are drawn.

Logits are standard normal, with a popularity of each expert. How many experts a token asks may then be up to
the token: only their number over all tokens is given, to one choice. The rules themselves are in
suite/formats/routing.py; here they get the one parameter with which they ask so many.
"""

import numpy as np
import torch
from torch import Tensor

from suite.formats.routing import expert_choice, hashed, prototypes, relu_norm, top_p
from suite.pattern import Positions, pattern, rounded, sparsity_faults
from suite.patterns.positions import from_flat
from suite.patterns.routes import Routes

WORDS = 2**15  # of a vocabulary
UNEVEN = 0.5  # standard deviation of the experts' popularity, in that of a logit


class Routers(Routes):
    """So many choices of m experts and k tokens in all."""

    def faults(self, m: int, k: int) -> list[str]:
        return sparsity_faults(self.sparsity)

    def positions(self, m: int, k: int, seed: int) -> Positions:
        rng = np.random.default_rng([seed, 1])
        logits = rng.standard_normal((k, m)) + UNEVEN * rng.standard_normal(m)
        count = self.count(m, k)
        going = self.gates(torch.from_numpy(logits), count, rng) if count else torch.zeros(k, m)
        return from_flat(going.t().flatten().nonzero()[:, 0].numpy(), m, k)

    def gates(self, logits: Tensor, count: int, rng: np.random.Generator) -> Tensor:
        """[k, m] of which `count` are not 0."""
        raise NotImplementedError


@pattern("relu@{sparsity}", family="rectified routes")
class Relu(Routers):
    """BlockFFN's router: a ReLU, for which a token may have any number of experts, or none."""

    sparsity: float

    def count(self, m: int, k: int) -> int:
        return rounded(self.sparsity, m * k)

    def gates(self, logits: Tensor, count: int, rng: np.random.Generator) -> Tensor:
        least = logits.flatten().kthvalue(logits.numel() - count + 1).values
        return relu_norm((logits - least).add_(torch.finfo(logits.dtype).eps), torch.ones(logits.shape[1]))


@pattern("topp@{sparsity}", family="top-p routes")
class TopP(Routers):
    """The fewest experts that hold a share of a token's softmax; one at least."""

    sparsity: float

    def faults(self, m: int, k: int) -> list[str]:
        few = self.count(m, k) < k
        return super().faults(m, k) or ([f"less than one expert a token, of {m}"] if few else [])

    def count(self, m: int, k: int) -> int:
        return rounded(self.sparsity, m * k)

    def gates(self, logits: Tensor, count: int, rng: np.random.Generator) -> Tensor:
        ordered = logits.softmax(-1).sort(-1, descending=True).values
        before = (ordered.cumsum(-1) - ordered).flatten().sort().values
        most = before[count] if count < len(before) else before.new_tensor(2.0)
        return top_p(logits, float((before[count - 1] + most) / 2))


@pattern("expertchoice@{sparsity}", family="expert-choice routes")
class ExpertChoice(Routers):
    """Each expert takes as many tokens, those it is likeliest for: even loads, and some tokens go nowhere."""

    sparsity: float

    def count(self, m: int, k: int) -> int:
        return m * rounded(self.sparsity, k)

    def gates(self, logits: Tensor, count: int, rng: np.random.Generator) -> Tensor:
        return expert_choice(logits, count // logits.shape[1])


@pattern("prototypes@{sparsity}", family="prototype routes")
class Prototypes(Routers):
    """M6-T's: experts in groups, and of each group the likeliest. As many groups as experts are asked."""

    sparsity: float

    def faults(self, m: int, k: int) -> list[str]:
        groups = rounded(self.sparsity, m)
        odd = groups and m % groups
        return super().faults(m, k) or ([f"{m} experts are not {groups} equal groups"] if odd else [])

    def gates(self, logits: Tensor, count: int, rng: np.random.Generator) -> Tensor:
        return prototypes(logits, count // len(logits))


@pattern("hashed@{sparsity}", family="hashed routes")
class Hashed(Routers):
    """By a hash of the token's word, whatever the logits: a control that learns nothing."""

    sparsity: float

    def gates(self, logits: Tensor, count: int, rng: np.random.Generator) -> Tensor:
        words = torch.from_numpy(rng.integers(WORDS, size=len(logits)))
        return hashed(words, logits.shape[1], count // len(logits))
