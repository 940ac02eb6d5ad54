"""Sparsifier: a model being made sparse. It prunes, trains, holds the masks, and keeps the books.

Trainers are written in its words:

    @trainer(after=("magnitude-global",), training="weights")
    def finetune(sparsifier):
        sparsifier.prune()
        for _ in sparsifier.schedule(0.5):  # half as many steps as the dense training took
            sparsifier.step()

After every step the weights outside the masks are held against zero, and every mask against its pattern. What
was trained is counted here, so that no trainer flatters itself.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from suite.kernel import Refused
from suite.method import Method
from suite.pattern import Pattern, rounded
from suite.studying.found import found
from suite.studying.layers import Layer, Seen, Work
from suite.studying.masks import at_sparsity, best, legal, units
from suite.task import Problem

OFF = 0.03  # how far an allocator may be from the share it was given, as a part of it

Masks = dict[str, Tensor]
"""Of each layer, bool[m, k]."""


@dataclass
class Spent:
    """What a method's training took; the dense model it began from is not in it.

    flops: forward, input gradients and weight gradients at the sparsity of each, as if zeros were free.
    """

    examples: int = 0
    flops: float = 0.0
    steps: int = 0


class Sparsifier:
    """A model being made sparse by a method to a pattern."""

    def __init__(
        self,
        problem: Problem,
        model: nn.Module,
        method: Method,
        pattern: Pattern,
        seen: Seen,
        work: Work | None = None,
    ) -> None:
        """seen: of this model. work: of one like it, where it is known already."""
        self.problem, self.model, self.method, self.pattern = problem, model, method, pattern
        self.generator = seen.generator
        self.work = work or Work(problem, model)
        self.spent = Spent()
        self.masks: Masks = {}  # of all layers; empty while the model is dense
        self.patterns: dict[str, Pattern] = {}  # each layer's own
        self._seen = seen
        self._batches: Iterator | None = None
        self._optimizer: torch.optim.Optimizer | None = None
        self.nonzeros = self.sizes  # weights that each layer keeps, whatever their value
        self.forward_flops = self.work.total  # of one example, zeros free

    @property
    def layers(self) -> dict[str, Layer]:
        """The layers that may be pruned, by name."""
        return self._seen.layers

    @property
    def sparsity(self) -> float | None:
        """What is asked of all layers together; None: the pattern says it of each group."""
        return getattr(self.pattern, "sparsity", None)

    def prune(self, sparsity: float | None = None) -> None:
        """Choose masks for the weights as they are now, and drop what is outside them."""
        pattern = self.pattern if sparsity is None else at_sparsity(self.pattern, sparsity)
        self.patterns, masks = self.chosen(pattern)
        if refiner := self.method.parts.get("refiner"):
            for name, layer in self.layers.items():
                masks[name], weight = refiner(layer, masks[name], self.patterns[name])
                layer.weight.copy_(weight)
        self.use(masks)

    def chosen(self, pattern: Pattern) -> tuple[dict[str, Pattern], Masks]:
        """Each layer's share of the budget, and the best mask of it by the method's criterion."""
        if self.spent.steps:  # what was seen is of other weights
            self._seen = Seen(self.problem, self.model, self.generator)
        scores = {name: self.method.parts["criterion"](layer) for name, layer in self.layers.items()}
        for name, of in scores.items():
            if of.shape != self.layers[name].weight.shape or not bool(of.isfinite().all()):
                raise ValueError(f"the scores of {name} are not a number for each weight")
        patterns = allocated(pattern, self.layers, scores, self.method)
        return patterns, {name: best(patterns[name], of) for name, of in scores.items()}

    def use(self, masks: Mapping[str, Tensor]) -> None:
        """From here on these masks hold: weights outside them, and what the optimiser knows of them, go."""
        self._hold(masks)
        for name, mask in self.masks.items():
            known = self._optimizer.state[self.layers[name].parameter] if self._optimizer else {}
            for moment in known.values():
                if moment.dim() > 1:
                    moment.flatten(1).mul_(mask)

    def find(self) -> None:
        """Take the zeros that the model came with for its masks: it was made sparse elsewhere."""
        masks = {name: layer.weight != 0 for name, layer in self.layers.items()}
        self.masks = {name: mask for name, mask in masks.items() if not bool(mask.all())}
        self.patterns = {name: found(mask) for name, mask in self.masks.items()}
        self.nonzeros = {name: int(mask.sum()) for name, mask in masks.items()}
        self.forward_flops = self.work.at(self.nonzeros, self.sizes)

    def schedule(self, share: float = 1.0) -> Iterator[float]:
        """The steps of a training, `share` times as many as the dense one had: how much is over, 0 to 1.

        The rate of learning falls along a half cosine, as it did for the dense model.
        """
        parameters = list(self.model.parameters())
        self._optimizer = torch.optim.AdamW(
            parameters, self.problem.rate, weight_decay=self.problem.decay, fused=True
        )
        steps = max(1, round(share * self.problem.steps))
        self.model.train()
        for step in range(steps):
            for group in self._optimizer.param_groups:
                group["lr"] = self.problem.rate * (1 + math.cos(math.pi * step / steps)) / 2
            yield step / steps
        self.model.eval()

    def step(self, dense_gradients: bool = False) -> dict[str, Tensor]:
        """One step; weights outside the masks stay zero. The gradients of each layer's weights, [m, k].

        dense_gradients: those outside the masks too, which costs as much as if there were no masks.
        """
        self._backward(dense_gradients)
        gradients = {}
        for name, layer in self.layers.items():
            gradient = _gradient(layer)
            gradients[name] = gradient.clone() if dense_gradients else gradient
            if name in self.masks:
                gradient.mul_(self.masks[name])
        self._advance()
        self.verify()
        return gradients

    def step_through(self, decay: float = 0.0) -> None:
        """One step of the dense weights behind the masks, by the gradient at the masked ones.

        The straight-through estimator; `decay` times the weights outside the masks is added to it. The masks
        are chosen anew from the dense weights first; the last ones by a `prune` at the end.
        """
        self.patterns, masks = self.chosen(self.pattern)
        behind = {name: layer.weight.clone() for name, layer in self.layers.items()}
        self._hold(masks)
        self._backward(True)
        self.verify()
        for name, layer in self.layers.items():
            layer.weight.copy_(behind[name])
            _gradient(layer).add_(behind[name].mul(~masks[name]), alpha=decay)
        self._advance()

    def verify(self) -> None:
        """Weights outside the masks are zero. ValueError: they are not."""
        for name, mask in self.masks.items():
            if bool((self.layers[name].weight.ne(0) & ~mask).any()):
                raise ValueError(f"{name} has weights outside its mask")

    def settle(self) -> None:
        """Hold a sparsifier that is over to what was asked. ValueError: it came to something else."""
        self.verify()
        if not self.method.prunes:
            return
        if not self.masks:
            raise ValueError("the method left the model dense: its trainer never prunes")
        whole = {name: units(self.pattern, *layer.weight.shape) for name, layer in self.layers.items()}
        if self.sparsity is None or None in whole.values():
            short = any(one != self.pattern for one in self.patterns.values())
        else:
            kept = sum(rounded(one.sparsity, whole[name]) for name, one in self.patterns.items())  # pyright: ignore
            short = kept != rounded(self.sparsity, sum(whole.values()))  # pyright: ignore
        if short:
            raise ValueError(f"the masks come to something else than {self.pattern}")

    @property
    def sizes(self) -> dict[str, int]:
        """Weights that each layer has."""
        return {name: layer.weight.numel() for name, layer in self.layers.items()}

    def _hold(self, masks: Mapping[str, Tensor]) -> None:
        for name, mask in masks.items():
            if not legal(self.patterns[name], mask):
                raise ValueError(f"the mask of {name} is not {self.patterns[name]}")
            self.layers[name].weight.mul_(mask)
        self.masks = dict(masks)
        self.nonzeros = {name: int(mask.sum()) for name, mask in masks.items()}
        self.forward_flops = self.work.at(self.nonzeros, self.sizes)

    def _backward(self, dense_gradients: bool) -> None:
        """Gradients of a batch, and what they cost: forward, inputs' gradients, weights' gradients."""
        if self._batches is None:
            self._batches = self.problem.batches(self.generator)
        batch = next(self._batches)
        self.model.zero_grad()
        self.problem.loss(self.model, batch).backward()
        examples = self.problem.count(batch)
        sparse = self.forward_flops
        self.spent.examples += examples
        self.spent.steps += 1
        self.spent.flops += examples * (2 * sparse + (self.work.total if dense_gradients else sparse))

    def _advance(self) -> None:
        if self._optimizer is None:
            raise RuntimeError(
                "a step outside a course: write `for _ in sparsifier.schedule(): sparsifier.step()`"
            )
        self._optimizer.step()


def _gradient(layer: Layer) -> Tensor:
    gradient = layer.parameter.grad
    if gradient is None:
        raise ValueError(f"the loss does not depend on {layer.name}")
    return gradient.flatten(1)


def allocated(
    pattern: Pattern, layers: Mapping[str, Layer], scores: Mapping[str, Tensor], method: Method
) -> dict[str, Pattern]:
    """Each layer's own pattern: the allocator's shares, rounded so that the whole is exact to one unit.

    A pattern whose share cannot vary is every layer's as it is.
    """
    sizes = {name: units(pattern, *layer.weight.shape) for name, layer in layers.items()}
    sparsity = getattr(pattern, "sparsity", None)
    allocator = method.parts["allocator"]
    whole = {name: size for name, size in sizes.items() if size is not None}
    if sparsity is None or len(whole) < len(sizes):
        if allocator.name != "uniform":
            raise Refused(f"{pattern} leaves no share to {allocator.name}: it is the same in every layer")
        return dict.fromkeys(layers, pattern)
    shares = allocator(layers, scores, sparsity)
    kept = apportioned({name: (1 - shares[name]) * size for name, size in whole.items()}, whole, sparsity)
    return {name: at_sparsity(pattern, 1 - kept[name] / size) for name, size in whole.items()}


def apportioned(wanted: Mapping[str, float], sizes: Mapping[str, int], sparsity: float) -> dict[str, int]:
    """Whole numbers near the wanted ones, none above its size, that keep the whole's share exactly.

    Wanted ones may be off by more than rounding where units are blocks, for those at ragged edges are
    smaller.
    """
    total = rounded(sparsity, sum(sizes.values()))
    asked = sum(wanted.values())
    if abs(asked - total) > len(sizes) + OFF * total:
        raise ValueError(f"the allocator keeps {asked:.0f} units where {total} are to be kept")
    kept = {name: min(sizes[name], max(0, math.floor(wanted[name] + 1e-6))) for name in sizes}
    nearest = sorted(sizes, key=lambda name: kept[name] - wanted[name])
    while (short := total - sum(kept.values())) != 0:
        step = 1 if short > 0 else -1
        for name in nearest if step > 0 else reversed(nearest):
            if 0 <= kept[name] + step <= sizes[name] and short:
                kept[name] += step
                short -= step
    return kept
