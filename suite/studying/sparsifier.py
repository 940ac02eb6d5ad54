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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear

from suite.kernel import Refused
from suite.method import Method
from suite.pattern import Pattern, rounded
from suite.studying.found import found
from suite.studying.layers import Layer, Pass, Seen, Work
from suite.studying.masks import at_sparsity, best, legal, units
from suite.task import Batch, Problem

OFF = 0.03  # how far an allocator may be from the share it was given, as a part of it

Masks = dict[str, Tensor]
"""Of each layer, bool[m, k]."""

Loss = Callable[[nn.Module, Batch], Tensor]
"""Of a model on a batch."""


@dataclass
class Spent:
    """What a method's training took; the dense model it began from is not in it.

    flops: forward, input gradients and weight gradients at the sparsity of each, as if zeros were free.
    moved: places that one mask had and the next one had not, or the other way round.
    ablated: neurons that were left without any weight; None: the method ablates none.
    passes: forward passes that trained nothing, but chose what stays: calibration, and search.
    """

    examples: int = 0
    flops: float = 0.0
    steps: int = 0
    moved: int = 0
    ablated: int | None = None
    passes: list[Pass] = field(default_factory=list)


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
        seen.passes = self.spent.passes
        self._batches: Iterator | None = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._beside: dict[str, int] = {}  # weights of the paths beside layers
        self.nonzeros = self.used  # weights that each layer keeps, whatever their value

    @property
    def layers(self) -> dict[str, Layer]:
        """The layers that may be pruned, by name."""
        return self._seen.layers

    @property
    def forward_flops(self) -> float:
        """Of one example, zeros free."""
        beside = sum(2 * self.work.rows[name] * count for name, count in self._beside.items())
        return self.work.at(self.nonzeros, self.sizes) + beside

    @property
    def search_flops(self) -> float:
        """Of all forward passes that chose what stays, zeros free."""
        return sum(one.times * one.examples * self._forward(one) for one in self.spent.passes)

    def _forward(self, through: Pass) -> float:
        """FLOPs of one example of a pass."""
        if through.each is not None:
            return through.each
        return self.work.at(through.kept, self.sizes) if through.kept else self.work.total

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
            self._seen.passes = self.spent.passes
        scores = {name: self.method.parts["criterion"](layer) for name, layer in self.layers.items()}
        for name, of in scores.items():
            if of.shape != self.layers[name].weight.shape or not bool(of.isfinite().all()):
                raise ValueError(f"the scores of {name} are not a number for each weight")
        patterns = allocated(pattern, self.layers, scores, self.method)
        return patterns, {name: best(patterns[name], of) for name, of in scores.items()}

    def use(self, masks: Mapping[str, Tensor]) -> None:
        """From here on these masks hold: weights outside them, and what the optimiser knows of them, go.

        A layer's pattern, which its mask is held against, is that of the last `prune`, unless a trainer put
        another into `patterns`.
        """
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

    def beside(self, name: str, down: Tensor, up: Tensor) -> None:
        """A path of low rank beside a layer: what down, [r, k], and up, [m, r], make of its inputs is added.

        Its weights are the model's and no layer's: masks do not hold for them, bytes and FLOPs do.
        """
        put_beside(self.layers[name].module, down, up)
        self._beside[name] = down.numel() + up.numel()

    def become(self, model: nn.Module) -> None:
        """Go on with another model, such as what is left of this one when neurons are cut out.

        Paths beside layers are of the model that is left behind, as masks are.
        """
        self.model, self.work = model, Work(self.problem, model)
        self._seen = Seen(self.problem, model, self.generator)
        self._seen.passes = self.spent.passes
        self.masks, self.patterns, self._beside, self.nonzeros = {}, {}, {}, self.sizes

    def schedule(
        self, share: float = 1.0, parameters: Sequence[Tensor] | None = None, rate: float | None = None
    ) -> Iterator[float]:
        """The steps of a training, `share` times as many as the dense one had: how much is over, 0 to 1.

        Fresh weights have as many as the problem gives those, where its dense model came trained. The rate of
        learning falls along a half cosine, as it did for the dense model.
        parameters: those that are trained, where it is not the model's own: these do not decay.
        """
        fresh = self.problem.anew if self.method.start == "fresh" else None
        whole, usual = fresh or (self.problem.steps, self.problem.rate)
        rate = rate or usual
        decay = 0.0 if parameters is not None else self.problem.decay
        parameters = list(self.model.parameters()) if parameters is None else parameters
        self._optimizer = torch.optim.AdamW(parameters, rate, weight_decay=decay, fused=True)
        steps = max(1, round(share * whole))
        self.model.train()
        for step in range(steps):
            for group in self._optimizer.param_groups:
                group["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
            yield step / steps
        self.model.eval()

    def step(self, dense_gradients: bool = False, loss: Loss | None = None) -> dict[str, Tensor]:
        """One step; weights outside the masks stay zero. The gradients of each layer's weights, [m, k].

        dense_gradients: those outside the masks too, which costs as much as if there were no masks.
        loss: of a model on a batch, in place of the problem's.
        """
        gradients = {}
        for name, gradient in self.gradients(self.sizes if dense_gradients else self.nonzeros, loss).items():
            gradients[name] = gradient.clone() if dense_gradients else gradient
            if name in self.masks:
                gradient.mul_(self.masks[name])
        self.advance()
        return gradients

    def advance(self) -> None:
        """One step of what is trained, by the gradients it has. ValueError: weights left their mask."""
        self._advance()
        self.verify()

    def gradients(
        self, wanted: Mapping[str, int] | None = None, loss: Loss | None = None
    ) -> dict[str, Tensor]:
        """Of a batch's loss, by each layer's weights as they are, [m, k]. `advance` makes a step of them.

        wanted: of how many weights of each layer, for that is what it costs; None: of all.
        """
        self._backward(wanted or self.sizes, loss)
        return {name: _gradient(layer) for name, layer in self.layers.items()}

    def gradients_at(
        self, weights: Mapping[str, Tensor], nonzeros: Mapping[str, int] | None = None
    ) -> dict[str, Tensor]:
        """The same at other weights, [m, k], for a method that trains what these are made of.

        The layers' own take their place again. nonzeros: how many of them each layer has; None: no zeros.
        """
        behind = {name: layer.weight.clone() for name, layer in self.layers.items()}
        mine, self.nonzeros = self.nonzeros, dict(nonzeros or self.sizes)
        for name, layer in self.layers.items():
            layer.weight.copy_(weights[name])
        found = self.gradients(self.nonzeros)
        for name, layer in self.layers.items():
            layer.weight.copy_(behind[name])
        self.nonzeros = mine
        return found

    def step_through(self, decay: float = 0.0, left: float = 0.0) -> None:
        """One step of the dense weights behind the masks, by the gradient at the masked ones.

        The straight-through estimator; `decay` times the weights outside the masks is added to it. The masks
        are chosen anew from the dense weights first; the last ones by a `prune` at the end.
        left: the share of their size that weights outside the masks keep; with any the step is a dense one.
        """
        self.patterns, masks = self.chosen(self.pattern)
        behind = {name: layer.weight.clone() for name, layer in self.layers.items()}
        self._hold(masks)
        if left:
            found = self.gradients_at({name: w.where(masks[name], left * w) for name, w in behind.items()})
        else:
            found = self.gradients()
            self.verify()
        for name, layer in self.layers.items():
            layer.weight.copy_(behind[name])
            found[name].add_(behind[name].mul(~masks[name]), alpha=decay)
        self._advance()

    def verify(self) -> None:
        """Weights outside the masks are zero. ValueError: they are not."""
        for name, mask in self.masks.items():
            if bool((self.layers[name].weight.ne(0) & ~mask).any()):
                raise ValueError(f"{name} has weights outside its mask")

    def settle(self) -> None:
        """Hold a sparsifier that is over to what was asked. ValueError: it came to something else."""
        self.verify()
        if self.chooses:
            self.nonzeros = self.used
            self.patterns = {name: self.pattern for name, of in self.sizes.items() if self.used[name] < of}
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

    @property
    def used(self) -> dict[str, int]:
        """Weights of each layer that an example uses while there are no masks."""
        return {name: layer.used for name, layer in self.layers.items()}

    @property
    def chooses(self) -> bool:
        """Whether the model leaves weights out as it runs, others for each example."""
        return not self.masks and self.used != self.sizes

    def _hold(self, masks: Mapping[str, Tensor]) -> None:
        for name, mask in masks.items():
            if not legal(self.patterns[name], mask):
                raise ValueError(f"the mask of {name} is not {self.patterns[name]}")
            self.layers[name].weight.mul_(mask)
            self.spent.moved += int((self.masks[name] ^ mask).sum()) if name in self.masks else 0
        self.masks = dict(masks)
        self.nonzeros = {name: int(mask.sum()) for name, mask in masks.items()}

    def _backward(self, wanted: Mapping[str, int], loss: Loss | None) -> None:
        """Gradients of a batch, and what they cost: forward, inputs' gradients, weights' gradients."""
        if self._batches is None:
            self._batches = self.problem.batches(self.generator)
        batch = next(self._batches)
        self.model.zero_grad()
        (loss or self.problem.loss)(self.model, batch).backward()
        examples = self.problem.count(batch)
        self.spent.examples += examples
        self.spent.steps += 1
        self.spent.flops += examples * (2 * self.forward_flops + self.work.at(wanted, self.sizes))

    def _advance(self) -> None:
        if self._optimizer is None:
            raise RuntimeError(
                "a step outside a course: write `for _ in sparsifier.schedule(): sparsifier.step()`"
            )
        self._optimizer.step()


def put_beside(module: Any, down: Tensor, up: Tensor) -> None:
    """A path of low rank, down [r, k] and up [m, r], beside a linear or convolutional module."""
    module.down, module.up = nn.Parameter(down), nn.Parameter(up)
    module.register_forward_hook(_with_path)


def path_of(module: Any) -> tuple[Tensor, ...]:
    """What stands beside a module, (down, up); () where nothing does."""
    both = getattr(module, "down", None), getattr(module, "up", None)
    return both if all(isinstance(one, nn.Parameter) for one in both) else ()  # pyright: ignore


def _with_path(module: Any, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
    if module.weight.dim() > 2:
        kernels = module.down.view(-1, *module.weight.shape[1:])
        few = conv2d(given[0], kernels, None, module.stride, module.padding, module.dilation)
        return out + conv2d(few, module.up[..., None, None])
    return out + linear(linear(given[0], module.down), module.up)


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
