"""Language: a problem whose model says what comes next, judged by how well it foretells text it has not seen.

Batches are tokens and the tokens that come after each, both [windows, length]. Each window begins anew, with
nothing before it.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from suite.kernel import Refused
from suite.task import Batch, Problem

Windows = tuple[Tensor, Tensor]
"""Tokens, and those one later."""


class Language(Problem):
    """Windows to learn from and to be judged on."""

    examples = "tokens"

    def __init__(self, data: str, learned: Windows, judged: Windows) -> None:
        self.data, self.learned, self.judged = data, learned, judged

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


def windows(text: Tensor, starts: Tensor, length: int) -> Windows:
    """The tokens from each place of a text, and those one later."""
    cut = text[starts[:, None] + torch.arange(length + 1)].long()
    return cut[:, :-1], cut[:, 1:]


def drawn(text: Tensor, count: int, length: int, generator: Generator) -> Windows:
    """Windows of a text that do not overlap, or as many as there are."""
    places = torch.randperm((len(text) - 1) // length, generator=generator)[:count]
    return windows(text, length * places, length)
