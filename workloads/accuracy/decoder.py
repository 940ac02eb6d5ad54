"""Decoder: a small language model with the blocks that most large ones have.

Root-mean-square norms, rotary places, a gated feed-forward layer and no biases, as in Touvron et al., "LLaMA:
Open and Efficient Foundation Language Models", 2023.
"""

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention, silu

SLOWEST = 10_000.0  # of the rotations, the longest wavelength over 2 pi


class Block(nn.Module):
    """Attention and a gated feed-forward layer, each behind a norm and beside a way round it."""

    def __init__(self, dim, heads, hidden):
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.RMSNorm(dim, 1e-5), nn.RMSNorm(dim, 1e-5)
        self.q, self.k, self.v, self.out = (nn.Linear(dim, dim, bias=False) for _ in range(4))
        self.gate, self.up = (nn.Linear(dim, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, dim, bias=False)

    def forward(self, x, turns):
        x = x + self.attended(x, turns)
        return x + self.fed(x)

    def attended(self, x, turns):
        """What places tell those after them."""
        y = self.first(x)
        q, k, v = (one(y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for one in (self.q, self.k, self.v))
        q, k = turned(q, turns), turned(k, turns)
        return self.out(scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))

    def fed(self, x):
        """What each place makes of itself."""
        y = self.second(x)
        return self.down(silu(self.gate(y)) * self.up(y))


class Decoder(nn.Module):
    """Tokens [batch, length] to logits [batch, length, tokens]: what comes next, by what came before."""

    def __init__(self, tokens, dim, depth, heads, hidden):
        super().__init__()
        self.embed = nn.Embedding(tokens, dim)
        self.blocks = nn.ModuleList(Block(dim, heads, hidden) for _ in range(depth))
        self.norm, self.head = nn.RMSNorm(dim, 1e-5), nn.Linear(dim, tokens, bias=False)
        for one in self.parameters():
            if one.dim() > 1:
                nn.init.normal_(one, std=0.02)
        for block in self.blocks:  # so that the sum of all blocks begins no larger than one
            for last in (block.out, block.down):
                nn.init.normal_(last.weight, std=0.02 / (2 * depth) ** 0.5)

    def forward(self, tokens):
        x = self.embed(tokens)
        size = self.blocks[0].q.out_features // self.blocks[0].heads
        turns = rotations(torch.arange(tokens.shape[1]), size)
        for block in self.blocks:
            x = block(x, turns)
        return self.head(self.norm(x))


def rotations(places, dim):
    """Cosines and sines, [places, dim]: pair i of a head turns by place * SLOWEST ** (-2 i / dim)."""
    speeds = SLOWEST ** (-torch.arange(0, dim, 2) / dim)
    angles = torch.outer(places, speeds).repeat(1, 2)
    return angles.cos(), angles.sin()


def turned(x, turns):
    """The pairs of each head, element i and i + dim / 2, turned as far as their place says."""
    cosines, sines = turns
    low, high = x.chunk(2, -1)
    return x * cosines + torch.cat([-high, low], -1) * sines
