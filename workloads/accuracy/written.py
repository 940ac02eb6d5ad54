"""Written: text that a small decoder writes with few of its neurons, checked by all of them every few tokens.

Zhou et al., "Sirius: Contextual Sparsity with Correction for Efficient LLMs", NeurIPS 2024. The next token
comes from the sparse model. Every few tokens the whole model reads them at once: its keys and values take the
place of the sparse model's, and the first token that it finds too unlikely becomes its own; what was written
after that is written again. The prompt is read by the whole model, as it is where prefill is dense.
"""

from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention, silu

from suite.workloads.accuracy.decoder import Decoder, rotations, turned


class Few:
    """A hook on a gate that leaves each token its highest |silu(gate)|: a gate of 0 silences its neuron."""

    def __init__(self, keep):
        self.keep, self.on = keep, True

    def __call__(self, module, given, out):
        if not self.on or self.keep == out.shape[-1]:
            return out
        loud = silu(out).abs().topk(self.keep, -1).indices
        return torch.zeros_like(out).scatter(-1, loud, out.gather(-1, loud))


@dataclass(frozen=True)
class Checks:
    """When the whole model checks, and what it does to a token.

    every: tokens of a check; None: there is none. right(logits [k, tokens], said [k]) says of each token
    whether it stays; None: all do, and a check rewrites keys and values alone.
    """

    every: int | None = None
    right: object = None


@dataclass
class Log:
    """What writing took: calls of one token by the sparse model, checks, their tokens, tokens put right."""

    written: int = 0
    steps: int = 0
    checks: int = 0
    checked: int = 0
    corrected: int = 0


class Written(Decoder):
    """A trained decoder that keeps so many neurons of each token in each block, and is checked."""

    def __init__(self, like, keep, checks):
        first = like.blocks[0]
        sizes = *like.embed.weight.shape, len(like.blocks), first.heads, first.gate.out_features
        super().__init__(*sizes)
        self.load_state_dict(like.state_dict())
        self.few, self.checks = Few(keep), checks
        for block in self.blocks:
            block.gate.register_forward_hook(self.few)
            passes = 1 + (checks.every is not None)  # of a token, the sparse one and the check's
            block.up.share = block.down.share = (passes - 1 + keep / first.gate.out_features) / passes

    def forward(self, tokens):
        """Logits of what comes next in a text that is given: each check then rewrites keys and values.

        Of a token, those before its check's first are the whole model's, and the others the sparse one's.
        """
        if self.checks.every is None:
            return super().forward(tokens)
        length = tokens.shape[1]
        place = torch.arange(length)
        first = place // self.checks.every * self.checks.every
        checked, recent = place < first[:, None], (place >= first[:, None]) & (place <= place[:, None])
        seen = torch.cat((checked, recent), 1)
        turns = self.rotated(0, length)
        whole = sparse = self.embed(tokens)
        for block in self.blocks:
            with self.all():
                q, k, v = parts(block, whole, turns)
                whole = whole + joined(block, scaled_dot_product_attention(q, k, v, is_causal=True))
                whole = whole + block.fed(whole)
            q, *own = parts(block, sparse, turns)
            both = [torch.cat((of, mine), 2) for of, mine in zip((k, v), own, strict=True)]
            sparse = sparse + joined(block, scaled_dot_product_attention(q, *both, attn_mask=seen))
            sparse = sparse + block.fed(sparse)
        return self.head(self.norm(sparse))

    def rotated(self, first, last):
        return rotations(torch.arange(first, last), self.blocks[0].q.out_features // self.blocks[0].heads)

    @contextmanager
    def all(self):
        """All neurons speak."""
        before, self.few.on = self.few.on, False
        try:
            yield
        finally:
            self.few.on = before

    def heard(self, tokens, kept):
        """Logits [m, tokens] of m tokens behind those whose keys and values are kept; theirs are kept too."""
        start = kept[0][0].shape[2] if kept else 0
        x, turns = self.embed(tokens[None]), self.rotated(start, start + len(tokens))
        seen = torch.arange(start + len(tokens)) <= start + torch.arange(len(tokens))[:, None]
        for at, block in enumerate(self.blocks):
            q, *own = parts(block, x, turns)
            if at < len(kept):
                own = [torch.cat(both, 2) for both in zip(kept[at], own, strict=True)]
            kept[at : at + 1] = [own]
            x = x + joined(block, scaled_dot_product_attention(q, *own, attn_mask=seen))
            x = x + block.fed(x)
        return self.head(self.norm(x))[0]

    @torch.no_grad()
    def write(self, prompt, count, log):
        """`count` tokens after a prompt of two at least, each the likeliest, int64[count]."""
        text, every = prompt.tolist(), self.checks.every or count
        with self.all():
            self.heard(prompt[:-1], kept := [])
        while (short := len(prompt) + count - len(text)) > 0:
            begin = len(text)
            for _ in range(min(every, short)):
                text.append(int(self.heard(torch.tensor(text[-1:]), kept)[0].argmax()))
                log.steps += 1
            if self.checks.every is not None:
                self.check(text, begin, kept, log)
        log.written += count
        return torch.tensor(text[len(prompt) :])

    def check(self, text, begin, kept, log):
        """The whole model reads what was written from `begin` on, and puts the first wrong token right."""
        cropped(kept, begin - 1)
        said = torch.tensor(text[begin:])
        with self.all():
            logits = self.heard(torch.tensor(text[begin - 1 : -1]), kept)
        log.checks, log.checked = log.checks + 1, log.checked + len(said)
        wrong = (~self.checks.right(logits, said)).nonzero() if self.checks.right else ()
        if len(wrong):
            first = int(wrong[0])
            text[begin + first :] = [int(logits[first].argmax())]
            cropped(kept, begin + first)
            log.corrected += 1

    def density(self, log):
        """Weights read for a token that is written, as a share of all: checks read all of them once."""
        whole = sum(one.weight.numel() for one in self.modules() if isinstance(one, nn.Linear))
        gates = sum(block.up.weight.numel() + block.down.weight.numel() for block in self.blocks)
        silent = 1 - self.few.keep / self.blocks[0].gate.out_features
        return (log.steps * (1 - silent * gates / whole) + log.checks) / log.written


def parts(block, x, turns):
    """Queries, keys and values of a block, by head, turned."""
    y = block.first(x)
    q, k, v = (one(y).unflatten(-1, (block.heads, -1)).transpose(1, 2) for one in (block.q, block.k, block.v))
    return turned(q, turns), turned(k, turns), v


def joined(block, heads):
    return block.out(heads.transpose(1, 2).flatten(2))


def cropped(kept, length):
    """What is kept of the first tokens alone."""
    kept[:] = [[one[:, :, :length] for one in both] for both in kept]


def likely(least):
    """A token stays if the whole model gives it this probability at least; 1: if it is the likeliest."""

    def right(logits, said):
        there = logits.softmax(-1).gather(-1, said[:, None])[:, 0]
        return (there >= least) | (logits.argmax(-1) == said)

    return right


def anywhere(share, generator):
    """A token stays, or does not, by chance."""

    def right(logits, said):
        return torch.rand(len(said), generator=generator) >= share

    return right
