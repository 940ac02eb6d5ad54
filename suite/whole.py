"""Whole: a model around the layers that a case is one of, so that it is timed from end to end.

A case whose data name a task is of that task's model, pruned to the case's pattern by magnitude, the same
share of each layer: what a study's `magnitude-uniform` makes of it at the case's seed. Its matrix is the
first of the model's linear layers of that shape.

What races is versions of it (suite/version.py). What lies between layers is as torch runs it.

n counts the rows that such a layer multiplies in one call: of a classifier so many examples come at once; a
language model reads a text of so many tokens, or, where n is 1, the token after a window whose keys and
values it has kept.

An answer is held against the same model in float64. It may be off by a few times what torch's own is.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from suite.case import QUANTIZED, Case
from suite.check import Question, Wrong
from suite.kernel import Refused
from suite.method import named
from suite.op import MODELS
from suite.pattern import Pattern
from suite.quantized import as_stored
from suite.registry import Unusable
from suite.rounding import ROUNDING
from suite.sparse import Sparse, from_positions
from suite.stated import ledger
from suite.studying.experiment import Experiment
from suite.studying.language import Language
from suite.studying.layers import counting
from suite.studying.sparsifier import Sparsifier
from suite.task import TASKS, Problem

METHOD = "magnitude-uniform"
OP = "spmm"
MARGIN = 3  # times the error of torch's own answer: others that are no less right round elsewhere

Call = Callable[[Tensor], Tensor]


def of_tasks(*names: str) -> None:
    """Cases may name these tasks as their data from here on. Their models are timed as a whole, too."""
    MODELS.update(dict.fromkeys(names, matrix))


@lru_cache(maxsize=1)
def dense(task: str, seed: int) -> Experiment:
    """The dense model, trained or taken."""
    made = Experiment(TASKS[task], seed, "")
    made.make_dense()
    return made


@lru_cache(maxsize=2)
def pruned(task: str, seed: int, pattern: Pattern) -> Sparsifier:
    """The model of a task, pruned."""
    return dense(task, seed).sparsified(named(METHOD), pattern)


def linears(model: nn.Module, sparsifier: Sparsifier) -> dict[str, nn.Linear]:
    """A model's layers that kernels take the place of, by name."""
    found = {name: model.get_submodule(name) for name in sparsifier.masks}
    return {name: one for name, one in found.items() if isinstance(one, nn.Linear)}


def matrix(case: Case) -> Sparse:
    """The first layer of a case's shape. Unusable: its model has none."""
    sparsifier = pruned(case.data, case.seed, case.pattern)
    return compressed(sparsifier, alike(case, sparsifier), case)


def alike(case: Case, sparsifier: Sparsifier) -> str:
    """The name of the first layer of a case's shape."""
    found = linears(sparsifier.model, sparsifier)
    for name, layer in found.items():
        if layer.weight.shape == (case["m"], case["k"]):
            return name
    shapes = sorted({"{} x {}".format(*layer.weight.shape) for layer in found.values()})
    raise Unusable(f"case {case}: no layer of {case.data} is of this shape. There are: {', '.join(shapes)}.")


def compressed(sparsifier: Sparsifier, name: str, case: Case) -> Sparse:
    """A layer's weights inside its mask."""
    layer, mask = sparsifier.layers[name], sparsifier.masks[name]
    starts = torch.cat([mask.new_zeros(1, dtype=torch.long), mask.sum(1).cumsum(0)])
    columns = mask.nonzero()[:, 1]
    shape = mask.shape[0], mask.shape[1]
    found = layer.weight[mask], shape, sparsifier.patterns[name]
    return as_stored(case, from_positions(starts.numpy(), columns.numpy(), *found))


class InPlace(nn.Module):
    """A linear layer whose product is a kernel's; torch's where there is none.

    Its answer is token-major whatever the kernel's is: torch's attention takes a slow way with any other.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        self.call: Call | None = None
        self.given = layer.weight.new_empty(layer.in_features, 0)  # to torch, in the call before: [k, n]

    def forward(self, x: Tensor) -> Tensor:
        """[..., k] to [..., m]."""
        if self.call is None:
            self.given = x.reshape(-1, self.in_features).t()
            return functional.linear(x, self.weight, self.bias)
        rows = self.call(x.reshape(-1, self.in_features).t()).t().contiguous()
        out = rows.unflatten(0, x.shape[:-1])
        return out if self.bias is None else out + self.bias


class Place(NamedTuple):
    """Where a kernel may stand in a model, and the case and operands of the layer that it stands for."""

    slot: InPlace
    case: Case
    operands: tuple[Sparse, Tensor]


@dataclass
class Model:
    """A pruned model on its device: as torch runs it, and with a place for a kernel in each linear layer.

    plain, fitted: what either says of inputs. live: the inputs of a call, one of two.
    inputs, expected: both, and the answers in float64. allowed: how far off one may be.
    nominal, useful: FLOPs of its linear layers; beside: of what lies between them.
    """

    name: str
    plain: Call
    fitted: Call
    places: Sequence[Place]
    live: Tensor
    inputs: Sequence[Tensor]
    expected: Sequence[Tensor]
    allowed: float
    nominal: int
    useful: int
    beside: int
    now: int = 0

    def with_kernels(self, calls: Sequence[Call | None]) -> Tensor:
        """What it says of the live inputs with these in its places; None: torch's own."""
        for one, call in zip(self.places, calls, strict=True):
            one.slot.call = call
        return self.fitted(self.live)

    def turn(self) -> None:
        """Put the other inputs in the place of those that are there, so that a kept answer shows itself."""
        self.now = 1 - self.now
        self.live.copy_(self.inputs[self.now])

    def check(self, answer: Tensor) -> float:
        """The share of what roundings explain by which the worst row is off. Raises Wrong above 1."""
        worst = off(answer, self.expected[self.now]) / self.allowed
        if not worst <= 1:
            raise Wrong(f"the answer of {self.name} is off by {worst:.3g} times what roundings explain")
        return worst

    def stated(self, facts: dict[str, Any]) -> dict[str, Any]:
        """What lines of a case state, with the work of all of it; its bytes are not told."""
        work = {"flops_nominal": self.nominal + self.beside, "flops_useful": self.useful + self.beside}
        return facts | work | {"bytes_live": None}


def whole(asked: Question) -> Model:
    """The model of a case whose data name one. Refused, Unusable: it is not timed so."""
    case, device = asked.case, asked.operands[0].values.device
    if case.torch_dtype not in ROUNDING or case.dtype in QUANTIZED:
        raise Refused(f"a whole model is timed in {', '.join(str(one)[6:] for one in ROUNDING)}")
    sparsifier = pruned(case.data, case.seed, case.pattern)
    context, inputs = read(sparsifier, case)
    exact, torchs = (copy.deepcopy(sparsifier.model).eval().requires_grad_(False) for _ in range(2))
    answers = asking(sparsifier.problem, exact.double(), context)
    plain = asking(sparsifier.problem, torchs.to(device, case.torch_dtype), context)
    mine = [as_float(one, case.torch_dtype).to(device) for one in inputs]
    expected = [answers(as_float(one, torch.float64).cpu()) for one in mine]
    own = [off(plain(one), right) for one, right in zip(mine, expected, strict=True)]
    fitted = copy.deepcopy(torchs)
    slots = {name: slot(fitted, name) for name in linears(fitted, sparsifier)}
    inside, live = asking(sparsifier.problem, fitted, context), mine[0].clone()
    with counting() as counter:
        inside(live)
    places = [standing(sparsifier, name, one, case) for name, one in slots.items()]
    facts = [ledger(one.case, (one.operands[0].to("cpu"), one.operands[1].cpu())) for one in places]
    nominal, useful = (sum(one[name] for one in facts) for name in ("flops_nominal", "flops_useful"))
    return Model(
        name=case.data,
        plain=plain,
        fitted=inside,
        places=places,
        live=live,
        inputs=mine,
        expected=expected,
        allowed=MARGIN * max(own) + ROUNDING[case.torch_dtype],
        nominal=nominal,
        useful=useful,
        beside=counter.get_total_flops() - nominal,
    )


def slot(model: nn.Module, name: str) -> InPlace:
    """A place for kernels where a layer stood."""
    above, _, last = name.rpartition(".")
    made = InPlace(model.get_submodule(name))  # pyright: ignore
    setattr(model.get_submodule(above), last, made)
    return made


def standing(sparsifier: Sparsifier, name: str, slot: InPlace, case: Case) -> Place:
    """A layer of the model, and the inputs that it had."""
    a, given = compressed(sparsifier, name, case).to(slot.given.device), slot.given.contiguous()
    return Place(slot, case.with_sizes(m=a.shape[0], k=a.shape[1], n=given.shape[1]), (a, given))


def read(sparsifier: Sparsifier, case: Case) -> tuple[Tensor | None, list[Tensor]]:
    """What a language model has read before, None for nothing; and what is asked, twice, not the same.

    Unusable: n is no whole number of examples, or of more than there are.
    """
    problem = sparsifier.problem
    x = torch.cat([batch[0] for batch in problem.calibration()])
    if isinstance(problem, Language):
        text, length = x.flatten(), x.shape[1]
        if case["n"] == 1:
            last = text[length - 1]
            return x[:1, :-1], [one.view(1, 1) for one in (last, text[text != last][0])]
        wide = min(length, case["n"])
        x, rows = text[: len(text) // wide * wide].view(-1, wide), wide
    else:
        rows = round(sparsifier.work.rows[alike(case, sparsifier)])
    count, over = divmod(case["n"], rows)
    if over or not 1 <= count <= len(x):
        raise Unusable(
            f"case {case}: n is to be whole examples of {case.data}, of {rows} rows each, {len(x)} at most."
        )
    return None, [x[:count], x[:count].flip(-1)]


def asking(problem: Problem, model: nn.Module, context: Tensor | None) -> Call:
    """What a model says of inputs, after what it has read before."""
    if context is None:
        return torch.no_grad()(lambda x: problem.answers(model, (x,)))
    assert isinstance(problem, Language)
    there = next(model.parameters()).device
    return torch.no_grad()(problem.after(model, context.to(there)))


def as_float(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers in this dtype; tokens as they are."""
    return x.to(dtype) if x.is_floating_point() else x


def off(answer: Tensor, right: Tensor) -> float:
    """How far the worst row of an answer is from the right one, over that one's size."""
    apart = (answer.to("cpu", torch.float64) - right.cpu()).norm(dim=-1) / right.cpu().norm(dim=-1)
    return float(apart.nan_to_num(torch.inf).max())
