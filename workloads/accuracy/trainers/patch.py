"""Patch: which tiles of a weight stay dense and which are 2:4, learned by the loss, the weights frozen.

"PATCH: Learnable Tile-level Hybrid Sparsity for LLMs". Each tile has a logit. A step draws softly how dense
each is, by Gumbel noise, sees the loss with weights times that, and moves the logits. A halved tile keeps
what the method's criterion would keep of it. More weights never seem worse, so all logits would rise: they
count from the one that is just dense, and the share of 2:4 tiles stays what was asked, here in each layer.
"""

import torch

from suite.method import trainer
from suite.patterns.patch import HALVED, Patch
from suite.studying.masks import best, blocks, spread
from suite.workloads.accuracy.trainers.maskllm import learned

PRIOR = 1.0  # logit of a tile that the criterion would leave dense, and less of one that it would not


@trainer(
    after=("magnitude-uniform",),
    patterns=(Patch,),
    training="mask",
    extents=("full",),
    ids=("patch",),
)
def patch(sparsifier):
    """Learn which tiles are dense and which are 2:4; the weights stay as they are."""
    _, halved = sparsifier.chosen(HALVED)
    sparsifier.patterns, masks = sparsifier.chosen(sparsifier.pattern)
    pattern = sparsifier.pattern
    learned(sparsifier, {name: Choice(pattern, mask, halved[name]) for name, mask in masks.items()})


class Choice:
    """Of each tile of a layer, whether it is dense; `halved` is what it keeps if it is not."""

    def __init__(self, pattern, mask, halved):
        self.tiles, self.halved = pattern.dense(), halved
        dense = blocks(self.tiles, (mask & ~halved).float()) > 0
        self.logits = (PRIOR * (2 * dense.float() - 1)).requires_grad_()
        self.kept = int(dense.sum())

    def drawn(self, heat, generator):
        """A soft mask."""
        uniform = torch.rand(self.logits.shape, generator=generator).clamp(1e-6, 1 - 1e-6)
        ordered = self.logits.detach().flatten().sort(descending=True).values
        edge = ordered[max(0, self.kept - 1) : self.kept + 1].mean()
        share = ((self.logits - edge + uniform.logit()) / heat).sigmoid()
        return self.halved + ~self.halved * spread(self.tiles, share, self.halved)

    def likeliest(self):
        return self.halved | best(self.tiles, spread(self.tiles, self.logits.detach(), self.halved))
