"""Layers: the weights of a model as matrices, and what criteria may know about each.

Inputs and gradients are those of the problem's calibration data. They are found when first asked for, and
shared by every criterion that asks: gradients and the sizes of inputs for all layers at once, second moments,
which take k x k numbers a layer, for as many neighbouring layers as there is room for.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property, partial
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from suite.kernel import Refused
from suite.task import Problem

Look = Callable[[str, nn.Module, Tensor], None]

ROOM = 2 << 30  # bytes of second moments that are held at a time


class Layer:
    """One layer as criteria, allocators and refiners see it; `seen` has the whole model and its problem."""

    def __init__(self, name: str, module: nn.Module, seen: "Seen") -> None:
        self.name, self.module, self.seen = name, module, seen

    @property
    def weight(self) -> Tensor:
        """[m, k]: a row for each output, the inputs it is summed over along k. A view: writing it counts."""
        return self.parameter.detach().flatten(1)

    @property
    def parameter(self) -> nn.Parameter:
        """What is trained; of a convolution it has four dimensions."""
        return self.module.weight  # pyright: ignore

    @property
    def used(self) -> int:
        """Weights that an example is multiplied by: all, but where the module has a `share` as it is now."""
        return round(getattr(self.module, "share", 1.0) * self.weight.numel())

    @property
    def moments(self) -> Tensor:
        """[k, k]: the mean of x xᵀ over the layer's inputs x. The Hessian of its output's squared error."""
        return self.seen.moments[self.name]

    @property
    def norms(self) -> Tensor:
        """[k]: the root mean square of each input."""
        return self.seen.norms[self.name]

    @property
    def gradient(self) -> Tensor:
        """[m, k]: of the loss."""
        return self.seen.gradients[self.name]

    @property
    def generator(self) -> Generator:
        """For criteria that draw; seeded by the study."""
        return self.seen.generator


class Pass(NamedTuple):
    """Examples that went forward through a model to choose what stays of it. kept: weights; None: all.

    times: as many forward passes they cost; there and back are three. each: FLOPs of an example, where it is
    another model than the one that came of it.
    """

    examples: int
    kept: Mapping[str, int] | None = None
    times: int = 1
    each: float | None = None


class Moments(Mapping[str, Tensor]):
    """Of each layer the mean of x xᵀ over its inputs, [k, k]; of one group of neighbours at a time.

    A group is as many layers as fit into ROOM, one at least. Each costs a pass over the calibration data when
    it is asked for, and again when another was asked for in between: ask for layers in their order.
    """

    def __init__(self, seen: "Seen") -> None:
        self._seen = seen
        self._at: int | None = None
        self._held: Mapping[str, Tensor] = {}
        self._groups: dict[str, int] = {}
        group = held = 0
        for name, layer in seen.layers.items():
            size = 4 * layer.weight.shape[1] ** 2
            if held and held + size > ROOM:
                group, held = group + 1, 0
            self._groups[name], held = group, held + size

    def __getitem__(self, name: str) -> Tensor:
        if (group := self._groups[name]) != self._at:
            self._held = {}  # what is not needed any more goes before more is made
            names = [other for other, at in self._groups.items() if at == group]
            self._at, self._held = group, self._seen.moments_of(names)
        return self._held[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)


class Seen:
    """What the calibration data of a problem show of a model as it is now.

    passes: what was spent on looking. A method pays for what it asks, whether it was known already or not.
    """

    def __init__(
        self, problem: Problem, model: nn.Module, generator: Generator, copied: "Seen | None" = None
    ) -> None:
        """copied: what was seen of the model that this one is a copy of."""
        self.problem, self.model, self.generator, self._copied = problem, model, generator, copied
        self.passes: list[Pass] = []
        self.layers = {name: Layer(name, one, self) for name, one in problem.layers(model).items()}

    @cached_property
    def moments(self) -> Mapping[str, Tensor]:
        return Moments(self)

    def moments_of(self, names: Sequence[str]) -> Mapping[str, Tensor]:
        """Of these layers, in one pass."""
        self.passes.append(Pass(self._examples))
        if self._copied:
            moments = self._copied.moments
            return {name: moments[name] for name in names}
        return self._means(names, lambda flat: flat.mT @ flat)

    @cached_property
    def norms(self) -> dict[str, Tensor]:
        """Of each layer, [k]: the root mean square of each input."""
        self.passes.append(Pass(self._examples))
        if self._copied:
            return self._copied.norms
        means = self._means(self.layers, lambda flat: flat.square().sum(0))
        return {name: of.sqrt() for name, of in means.items()}

    def _means(self, names: Iterable[str], of: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """What `of` sums over rows of inputs, over their number."""
        sums: dict[str, Tensor] = {}
        rows: dict[str, int] = {}

        def look(name: str, module: nn.Module, x: Tensor) -> None:
            flat = unfolded(module, x)
            sums[name] = sums[name].add_(of(flat)) if name in sums else of(flat)
            rows[name] = rows.get(name, 0) + len(flat)

        self._run(names, look)
        return {name: total.div_(rows[name]) for name, total in sums.items()}

    @cached_property
    def gradients(self) -> dict[str, Tensor]:
        self.passes.append(Pass(self._examples, times=3))
        if self._copied:
            return self._copied.gradients
        batches = self.problem.calibration()
        loss = torch.stack([self.problem.loss(self.model, batch) for batch in batches]).mean()
        found = torch.autograd.grad(loss, [one.parameter for one in self.layers.values()])
        return {name: grad.flatten(1) for name, grad in zip(self.layers, found, strict=True)}

    @property
    def _examples(self) -> int:
        return sum(map(self.problem.count, self.problem.calibration()))

    @torch.no_grad()
    def _run(self, names: Iterable[str], look: Look) -> None:
        """The calibration data through the model, the inputs of these layers shown to `look`."""
        with ExitStack() as hooks:
            for name in names:
                module = self.layers[name].module
                hooks.callback(module.register_forward_pre_hook(partial(_show, look, name)).remove)
            for batch in self.problem.calibration():
                self.problem.loss(self.model, batch)


def _show(look: Look, name: str, module: nn.Module, given: tuple[Tensor, ...]) -> None:
    look(name, module, given[0])


def unfolded(module: nn.Module, x: Tensor) -> Tensor:
    """The inputs of a layer as rows of length k, one for each product with its weight."""
    if not isinstance(module, nn.Conv2d):
        return x.detach().flatten(0, -2)
    if module.groups != 1 or isinstance(module.padding, str):
        raise Refused("a convolution in groups, or with padding by name, has no single matrix of inputs")
    patches = functional.unfold(
        x.detach(),
        module.kernel_size,
        module.dilation,
        module.padding,
        module.stride,  # pyright: ignore
    )
    return patches.mT.flatten(0, 1)


def counting() -> Any:
    """A context that counts FLOPs; slow to import, and every run imports this file.

    torch's counter knows the fused attention of GPUs only, and takes that of CPUs for nothing.
    """
    from torch.utils.flop_counter import FlopCounterMode

    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return FlopCounterMode(display=False, custom_mapping={fused: attention_flops})


def attention_flops(
    query: Sequence[int], keys: Sequence[int], values: Sequence[int], *_: Any, **__: Any
) -> int:
    """Of both products, by the shapes [batch, heads, length, width]; what a mask hides is counted too."""
    batch, heads, length, width = query
    return 2 * batch * heads * length * keys[2] * (width + values[3])


class Work:
    """The FLOPs of a model's forward pass for one example, and each layer's share of them.

    What is no layer's (attention's products, causal ones whole) counts as it is, whatever is pruned.
    Element-wise work does not count.
    """

    def __init__(self, problem: Problem, model: nn.Module) -> None:
        batch = problem.calibration()[0]
        with torch.no_grad(), counting() as counter:
            problem.loss(model, batch)
        layers, examples = problem.layers(model), problem.count(batch)
        counted = counter.get_flop_counts()
        # The counter names a module by its class and its path from there.
        mine = {name: sum(counted[f"{type(model).__name__}.{name}"].values()) for name in layers}
        self.total = counter.get_total_flops() / examples
        self.layers = {name: flops / examples for name, flops in mine.items()}
        self.rows = {name: flops / 2 / weights(layers[name]) for name, flops in self.layers.items()}

    def at(self, nonzeros: Mapping[str, int], sizes: Mapping[str, int]) -> float:
        """The FLOPs where layers keep these many of their weights."""
        return self.total - sum(
            self.layers[name] * (1 - kept / sizes[name]) for name, kept in nonzeros.items()
        )


def weights(module: nn.Module) -> int:
    return math.prod(module.weight.shape)  # pyright: ignore
