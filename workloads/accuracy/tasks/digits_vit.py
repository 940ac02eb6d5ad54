"""Digits, vision transformer: eight patches of 2 x 4 pixels, two blocks."""

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from suite.patterns.chosen import Chosen
from suite.task import task
from suite.workloads.accuracy.digits import PROTOCOL, Digits
from suite.workloads.accuracy.feed import Feed, Loudest, cutting, routed, spared
from suite.workloads.accuracy.grid import coarse

HEADS = 2
RISE = 0.01  # of perplexity, at which it is told how many neurons a model may spare


class Block(nn.Module):
    """Attention and a feed-forward layer, each behind a norm and beside a way round it."""

    def __init__(self, dim):
        super().__init__()
        self.first, self.second = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.feed = Feed(dim, 2 * dim)

    def forward(self, x):
        q, k, v = self.qkv(self.first(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.feed(self.second(x))


class Transformer(nn.Module):
    """Patches embedded, blocks, and the mean over the patches classified."""

    def __init__(self, dim):
        super().__init__()
        self.embed, self.places = nn.Linear(8, dim), nn.Parameter(0.02 * torch.randn(8, dim))
        self.blocks = nn.Sequential(Block(dim), Block(dim))
        self.norm, self.classes = nn.LayerNorm(dim), nn.Linear(dim, 10)

    def forward(self, x):
        patches = x.view(-1, 4, 2, 2, 4).transpose(2, 3).reshape(-1, 8, 8)
        return self.classes(self.norm(self.blocks(self.embed(patches) + self.places)).mean(1))


def patterns(extent, trained):
    """Of weights, and of what each token chooses to use of them."""
    return [*coarse(extent, trained), *(map(Chosen, (0.75, 0.5, 0.875)) if extent == "full" else ())]


LATER = ("*-wide", "longer-*", "plain-monarch", "plain-low_rank", "*-evopress")


@task(protocol=PROTOCOL, metric="accuracy", patterns=patterns, later=LATER, toy=True)
class digits_vit(Digits):
    """Handwritten digits, a transformer of two blocks and width 32."""

    batch, steps, rate, decay = 128, 250, 4e-3, 1e-2

    def model(self, width=1.0):
        return Transformer(HEADS * max(1, round(32 * width / HEADS)))

    def measure(self, model, dense):
        found = super().measure(model, dense)
        with torch.no_grad():
            self.loss(model, self.judged)  # so that the last call, of which routes are told, is of these
        found |= routed(model)
        if all(isinstance(one.feed.rule, Loudest) and not one.feed.rule.learnt for one in model.blocks):
            with cutting(model, lambda: self.loss(model, self.judged)) as at:
                found["neurons at zero"], found["neurons spared"] = at(0.0)[0], spared(at, RISE)[0]
        return found
