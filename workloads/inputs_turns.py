"""Inputs of decode where one context is asked more than once: the turns of a conversation, or its requests.

A model of two layers is put together by hand, so that what is right is known. The first is run over a text:
each token looks at the one before it and takes its name along, which makes the keys of the second; values
say what a token is. A question names a token; the key that bears its name is that of the next, whose value
is the answer: retrieval of strings, right or wrong. The last of three or more turns looks at all tokens
nearly alike and so counts those of the commonest kind, chapter after chapter: a property of the whole text.

Texts have chapters: tokens near each other are alike in a few channels, names differ in a few others; so
keys are of low rank, as those of real heads are said to be before positions enter. Each group of heads reads
a text of its own.

The sequences of a case hold copies of one cache, and their queries are the turns, in order: a turn finds its
copy as cold as if minutes had passed since the last.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from suite.inputs import inputs
from suite.op import generator
from suite.ops.decode import seen_tokens
from suite.workloads.inputs import waves
from suite.workloads.inputs_decode import heavy_channels

OPS = ("decode",)
CHAPTER = 64  # tokens
KINDS, MARK = 4, 4.0  # of tokens to be counted, and the value that says which one it is
NAMED, NEAR = 28.0, 14.0  # a score where a question finds its token: by name, and by chapter
NOISE = 0.3  # in each number of a key
FLAT = 0.03  # numbers of a query that looks at all alike
STRETCH = 256  # tokens that the first layer reads at once
SHARP, WIDTH = 24.0, 0.5  # how it tells a token from its neighbours
LEVELS = 15  # steps between the least and the largest of 4 bits
LEAST = 3  # turns of which the last one counts


@dataclass(frozen=True)
class Text:
    """What is written, and what is asked.

    tokens: [g, t, d], what a key says of the token before; said: [t, d - KINDS], what a value says of each
    token of the vocabulary; order: [g, t], which of it stands where; kinds: [g, t], of tokens;
    asked: [n, h], after which place of its text each head seeks the next token.
    """

    tokens: Tensor
    said: Tensor
    order: Tensor
    kinds: Tensor
    asked: Tensor

    def of_heads(self, each: Tensor) -> Tensor:
        """What groups have, for each query head."""
        return each.repeat_interleave(self.asked.shape[1] // len(each), 0)


def written(case, source):
    """The text of a case."""
    n, h, g, t, d = (case[size] for size in "nhgtd")
    chapter = torch.arange(t) // CHAPTER
    order = torch.stack([torch.randperm(t, generator=source) for _ in range(g)])
    kinds = torch.randint(KINDS, (g, int(chapter[-1]) + 1), generator=source)[:, chapter]
    tokens = torch.zeros(g, t, d)
    for group in range(g):
        heavy = heavy_channels(case, group)
        light = torch.ones(d, dtype=torch.bool).index_fill(0, heavy, False)
        topics = unit(int(chapter[-1]) + 1, len(heavy), source)[chapter]
        names = unit(t, max(2, d // 4 - len(heavy)), source)
        spread = torch.linalg.qr(torch.randn(d - len(heavy), names.shape[1], generator=source)).Q
        tokens[group][:, heavy] = NEAR**0.5 * topics
        tokens[group][:, light] = NAMED**0.5 * names @ spread.T
    said = torch.randn(t, d - KINDS, generator=source)
    asked = torch.randint(max(1, t - 1), (n, h), generator=source)
    return Text(tokens * d**0.25, said, order, kinds, asked)


def unit(count, size, source):
    """Random unit vectors."""
    return torch.nn.functional.normalize(torch.randn(count, size, generator=source), dim=-1)


def previous(tokens, source, near=None):
    """The first layer: what of the token before each says, by attention to positions alone: [g, t, d].

    near: so many stretches back it looks, and at the first one: sparse prefill. None: at all before.
    """
    _, t, d = tokens.shape
    places = waves(torch.arange(-1.0, t)[:, None], WIDTH, d, source)
    made = torch.empty_like(tokens)
    for first in range(0, t, STRETCH):
        rows = torch.arange(first, min(first + STRETCH, t))
        seen = torch.arange(int(rows[-1]) + 1)
        if near is not None:
            seen = seen[(seen < STRETCH) | (seen >= first - near * STRETCH)]
        scores = SHARP * places[rows] @ places[seen + 1].T
        weights = scores.masked_fill_(seen > rows[:, None], -torch.inf).softmax(-1)
        made[:, rows] = weights @ tokens[:, seen]
    return made


def asked(case, source, requests=False, near=None, bits=None):
    """K, V and q. requests: before them comes the text's own end, which asks for nothing."""
    text = written(case, source)
    keys = previous(text.tokens, source, near)
    keys += NOISE * torch.randn(keys.shape, generator=source)
    marks = MARK * torch.nn.functional.one_hot(text.kinds, KINDS)
    values = torch.cat((text.said[text.order], marks), -1)
    if bits:
        keys, values = rounded(keys), rounded(values)
    n, h = text.asked.shape
    places = text.asked.clone()
    if requests:
        places[0] = case["t"] - 1
    q = text.of_heads(text.tokens)[torch.arange(h), places]
    if n >= LEAST:
        q[-1] = FLAT * torch.randn(h, case["d"], generator=source)
    return keys.repeat(n, 1, 1, 1), values.repeat(n, 1, 1, 1), q


def rounded(numbers):
    """Each token's numbers to the nearest of 16 between its least and its largest."""
    low, high = numbers.aminmax(dim=-1, keepdim=True)
    step = (high - low).clamp(min=1e-9) / LEVELS
    return ((numbers - low) / step).round() * step + low


def judge(case, chosen, whole, requests=False):
    """Of each turn the share of right answers, or by how much a count is off; and attention's in full.

    cache used: of a group's tokens, those that some turn looks at: so much must have been kept, at least.
    """
    (found, *_), answer = chosen
    text = written(case, generator(case, 1))
    told = dict(marked(text, answer, requests))
    told |= {f"{name} in full": worth for name, worth in marked(text, whole[1], requests)}
    n, h, g, t = (case[size] for size in "nhgt")
    used = seen_tokens(found.to("cpu"), t, n, h).view(n, g, -1, t).any(2).any(0)
    return told | {"cache used": float(used.float().mean())}


def marked(text, answer, requests):
    """Each turn's name, and what its answers are worth."""
    n, h = text.asked.shape
    answer = answer.cpu().float()
    right = text.of_heads(text.order)[torch.arange(h), text.asked + 1]
    common = text.of_heads(text.kinds.mode(-1, keepdim=True).values)
    share = (text.of_heads(text.kinds) == common).float().mean(-1)
    for turn in range(int(requests), n):
        name = f"request {turn}" if requests else f"turn {turn + 1}"
        if turn == n - 1 and n >= LEAST:
            counted = answer[turn, :, -KINDS:].gather(-1, common)[:, 0] / MARK
            yield f"{name} miscount", float(((counted - share).abs() / share).mean())
        else:
            found = (answer[turn, :, :-KINDS] @ text.said.T).argmax(-1)
            yield name, float((found == right[turn]).float().mean())


@inputs(ops=OPS, judge=judge)
def turns(case, source):
    """Turns of a conversation about one text: each asks what follows another name; the last one counts."""
    return asked(case, source)


@inputs(ops=OPS, judge=partial(judge, requests=True))
def requests(case, source):
    """Requests that share one text, whose end came first, before anything was asked."""
    return asked(case, source, requests=True)


@inputs(ops=OPS, judge=judge)
def turns_streamed(case, source):
    """Turns over a cache made by sparse prefill: the first stretch of text and the last two. All is kept."""
    return asked(case, source, near=1)


@inputs(ops=OPS, judge=judge)
def turns_rounded(case, source):
    """Turns over a cache of 4 bits: what rounding loses. Bytes and times are those of unrounded numbers."""
    return asked(case, source, bits=4)
