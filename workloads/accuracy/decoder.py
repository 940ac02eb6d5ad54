"""Decoder: a small language model with the blocks that most large ones have.

Root-mean-square norms, rotary places, a gated feed-forward layer and no biases, as in Touvron et al., "LLaMA:
Open and Efficient Foundation Language Models", 2023.
"""

import torch
from torch import nn
from torch.nn.functional import pad, scaled_dot_product_attention, silu

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

    def forward(self, x, turns, kept=None):
        x = x + self.attended(x, turns, kept)
        return x + self.fed(x)

    def attended(self, x, turns, kept=None):
        """What places tell those after them; of one place, after those whose keys and values are kept."""
        y = self.first(x)
        q, k, v = (one(y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for one in (self.q, self.k, self.v))
        q, k = turned(q, turns), turned(k, turns)
        if kept is not None:
            k, v = (put(mine, new) for mine, new in zip(kept, (k, v), strict=True))
        seen = scaled_dot_product_attention(q, k, v, is_causal=kept is None)
        return self.out(seen.transpose(1, 2).flatten(2))

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
        return self.read(tokens, self.turns(torch.arange(tokens.shape[1], device=tokens.device)))

    def read(self, tokens, turns, kept=None):
        """Logits of tokens, in a text of their own or after what each block has kept."""
        x = self.embed(tokens)
        for at, block in enumerate(self.blocks):
            x = block(x, turns, kept[at]) if kept else block(x, turns)
        return self.head(self.norm(x))

    def after(self, tokens):
        """What reads one token more [batch, 1], the same place each time, behind keys and values of these."""
        length, heads = tokens.shape[1], self.blocks[0].heads
        x, kept = self.embed(tokens), []
        turns = self.turns(torch.arange(length + 1, device=tokens.device))
        before, last = ([one[part] for one in turns] for part in (slice(length), slice(length, None)))
        for block in self.blocks:
            y = block.first(x)
            k, v = (one(y).unflatten(-1, (heads, -1)).transpose(1, 2) for one in (block.k, block.v))
            kept.append([pad(one, (0, 0, 0, 1)) for one in (turned(k, before), v)])
            x = block(x, before)
        return lambda token: self.read(token, last, kept)

    def turns(self, places):
        """How far each place turns a head; in the dtype of the weights."""
        size = self.blocks[0].q.out_features // self.blocks[0].heads
        return [one.to(self.embed.weight.dtype) for one in rotations(places, size)]


def put(kept, new):
    """All keys, or values, the last of them new."""
    kept[:, :, -1:] = new
    return kept


def rotations(places, dim):
    """Cosines and sines, [places, dim]: pair i of a head turns by place * SLOWEST ** (-2 i / dim)."""
    speeds = SLOWEST ** (-torch.arange(0, dim, 2, device=places.device) / dim)
    angles = torch.outer(places, speeds).repeat(1, 2)
    return angles.cos(), angles.sin()


def turned(x, turns):
    """The pairs of each head, element i and i + dim / 2, turned as far as their place says."""
    cosines, sines = turns
    low, high = x.chunk(2, -1)
    return x * cosines + torch.cat([-high, low], -1) * sines
