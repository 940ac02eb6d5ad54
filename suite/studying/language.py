"""Language: a problem whose model says what comes next, judged by how well it foretells text it has not seen.

Batches are tokens and the tokens that come after each, both [windows, length]. Each window begins anew, with
nothing before it. A model is judged on whole windows of a text, and on some of them again with noise: a few
tokens are others, drawn from the same text, and what is to be foretold is the text as it was.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from suite.kernel import Refused
from suite.studying.quality import Foretold
from suite.task import Batch, Problem

NOISE = 0.05  # of the tokens
NOISY = 4  # one window in so many is read with noise as well
AT_ONCE = 2048  # tokens that are judged at a time, or one window: logits take more room than all else
# Bytes of the dense model's answers that are kept: of a longer text, those of windows spread evenly over it.
KEPT = 1 << 28

Windows = tuple[Tensor, Tensor]
"""Tokens, and those one later."""


class Language(Problem):
    """Windows to learn from and to be judged on, these in the order of their text."""

    examples = "tokens"
    metric: ClassVar[str]  # the task's

    def __init__(self, data: str, learned: Windows, judged: Windows) -> None:
        self.data, self.learned, self.judged = data, learned, judged
        self.noisy = noisy(judged[0][::NOISY], Generator().manual_seed(0))
        self._known: Known | None = None

    def logits(self, model: nn.Module, tokens: Tensor) -> Tensor:
        """Of what comes next, [windows, length, tokens]."""
        return model(tokens)

    def answers(self, model: nn.Module, batch: Batch) -> Tensor:
        return self.logits(model, batch[0])

    def after(self, model: nn.Module, tokens: Tensor) -> Callable[[Tensor], Tensor]:
        """Logits of what comes after one more token, [windows, 1], the keys and values of `tokens` kept.

        The token asked about is not kept: the next one comes after the same `tokens`.
        """
        raise Refused("this model keeps no keys and values")

    def calibration(self) -> Sequence[Batch]:
        return [self.learned]

    def count(self, batch: Batch) -> int:
        return batch[0].numel()

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """In nats for each token."""
        tokens, after = batch
        return cross_entropy(self.logits(model, tokens).flatten(0, 1), after.flatten())

    def told(self, nats: float) -> float:
        """The task's metric, of a mean loss."""
        raise NotImplementedError

    @torch.no_grad()
    def measure(self, model: nn.Module, dense: nn.Module) -> dict[str, float]:
        if self._known is None or self._known.model is not dense:
            self._known = self._read(dense)
        found = (self._known if model is dense else self._read(model, self._known)).found
        shifted = Foretold()
        for tokens, after in split((self.noisy, self.judged[1][::NOISY]), AT_ONCE):
            shifted.add(self.logits(model, tokens).float(), after, None)
        return {
            self.metric: self.told(found.loss),
            **found.quality(),
            "worst part": max(self.told(now) for now, _ in found.parts),
            "worst part rise": max(self.told(now) - self.told(before) for now, before in found.parts),
            f"noisy {self.metric}": self.told(shifted.loss),
        }

    def _read(self, model: nn.Module, dense: "Known | None" = None) -> "Known":
        """How well it foretells the text, beside the dense model; None: it is the dense model."""
        found = Foretold(dense and dense.found)
        kept = dict(dense.answers) if dense else {}
        for at, (tokens, after) in enumerate(split(self.judged, AT_ONCE)):
            logits = self.logits(model, tokens).float()
            if dense is None and at % math.ceil(logits[0].nbytes * len(self.judged[0]) / KEPT) == 0:
                kept[at] = logits
            found.add(logits, after, kept.get(at))
        return Known(model, found, kept)


class Known(NamedTuple):
    """What a model makes of the text, and the dense model's answers, by the place of their windows."""

    model: nn.Module
    found: Foretold
    answers: Mapping[int, Tensor]


def split(both: Windows, tokens: int = 1) -> list[Windows]:
    """Windows one by one, or as many at a time as have so many tokens."""
    count = max(1, tokens // both[0].shape[1])
    return list(zip(*(one.split(count) for one in both), strict=True))


def noisy(tokens: Tensor, generator: Generator) -> Tensor:
    """The same windows, some tokens in the place of which stand others of them."""
    others = tokens.flatten()[torch.randint(tokens.numel(), tokens.shape, generator=generator)]
    return torch.where(torch.rand(tokens.shape, generator=generator) < NOISE, others, tokens)


def windows(text: Tensor, starts: Tensor, length: int) -> Windows:
    """The tokens from each place of a text, and those one later."""
    cut = text[starts[:, None] + torch.arange(length + 1)].long()
    return cut[:, :-1], cut[:, 1:]


def drawn(text: Tensor, count: int, length: int, generator: Generator, in_order: bool = False) -> Windows:
    """Windows of a text that do not overlap, or as many as there are; in_order: that of the text."""
    places = torch.randperm((len(text) - 1) // length, generator=generator)[:count]
    return windows(text, length * (places.sort().values if in_order else places), length)
