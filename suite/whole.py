"""Whole: a model around the layers that a case is one of, so that it is timed from end to end.

A case whose data name a task is of that task's model, pruned to the case's pattern by magnitude, the same
share of each layer: what a study's `magnitude-uniform` makes of it at the case's seed. Its matrix is the
first of the model's linear layers of that shape.

Three versions of the model race, of the same weights: as torch runs it, zeros in place; with the quickest
dense kernel in each layer; with the quickest sparse one. Which is quickest at a shape is tried there, among
those that were quick on the case; a layer that none of them takes stays torch's. What lies between layers is
as torch runs it, and to bring activations into the memory order that a kernel wants is a part of every call.

n counts the rows that such a layer multiplies in one call: of a classifier so many examples come at once; a
language model reads a text of so many tokens, or, where n is 1, the token after a window whose keys and
values it has kept.

An answer is held against the same model in float64. It may be off by a few times what torch's own is.
"""

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from suite.case import Case
from suite.check import Question, Wrong
from suite.kernel import Kernel, Prepared, Refused, kernel
from suite.layer import Bench, Layer
from suite.measure import Contender
from suite.method import named
from suite.op import MODELS, OPS
from suite.pattern import Pattern
from suite.registry import Unusable
from suite.rounding import ROUNDING
from suite.selector import ready
from suite.sparse import Sparse, from_positions
from suite.stated import ledger
from suite.studying.experiment import Experiment
from suite.studying.language import Language
from suite.studying.layers import counting
from suite.studying.sparsifier import Sparsifier
from suite.task import TASKS, Problem

METHOD = "magnitude-uniform"
OP = "spmm"
CANDIDATES = 5  # kernels of a kind that are tried at each shape: those quickest on the case itself
TRIES = 3  # calls of each
MARGIN = 3  # times the error of torch's own answer: others that are no less right round elsewhere

Call = Callable[[Tensor], Tensor]


def of_tasks(*names: str) -> None:
    """Cases may name these tasks as their data from here on."""
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
    return from_positions(
        starts.numpy(), columns.numpy(), case.cast(layer.weight[mask]), shape, sparsifier.patterns[name]
    )


class Place(NamedTuple):
    """Where a kernel may stand: a layer's case and operands."""

    case: Case
    operands: tuple[Sparse, Tensor]


class Placed(NamedTuple):
    """A kernel at a place. call: takes inputs [k, n] as layers pass them on, to [m, n]."""

    kernel: Kernel
    made: Prepared
    call: Call


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


def whole(asked: Question) -> Layer | None:
    """The model of a case; None: its data name none."""
    case, device = asked.case, asked.operands[0].values.device
    if case.data not in MODELS:
        return None
    if case.torch_dtype not in ROUNDING:
        raise Refused(f"a whole model is timed in {', '.join(str(one)[6:] for one in ROUNDING)}")
    sparsifier = pruned(case.data, case.seed, case.pattern)
    context, inputs = read(sparsifier, case)
    exact, torchs = (copy.deepcopy(sparsifier.model).eval().requires_grad_(False) for _ in range(2))
    answers = asking(sparsifier.problem, exact.double(), context)
    beside = asking(sparsifier.problem, torchs.to(device, case.torch_dtype), context)
    mine = [as_float(one, case.torch_dtype).to(device) for one in inputs]
    expected = [answers(as_float(one, torch.float64).cpu()) for one in mine]
    own = [off(beside(one), right) for one, right in zip(mine, expected, strict=True)]
    allowed = MARGIN * max(own) + ROUNDING[case.torch_dtype]
    live, now = mine[0].clone(), 0

    ours = copy.deepcopy(torchs)
    slots = [slot(ours, name) for name in linears(ours, sparsifier)]
    inside = asking(sparsifier.problem, ours, context)
    with counting() as counter:
        inside(live)
    names = linears(sparsifier.model, sparsifier)
    places = [standing(sparsifier, name, one.given, case) for name, one in zip(names, slots, strict=True)]
    facts = [ledger(one.case, (one.operands[0].to("cpu"), one.operands[1].cpu())) for one in places]
    counted = {name: sum(one[name] for one in facts) for name in ("flops_nominal", "flops_useful")}
    flops = counter.get_total_flops() - counted["flops_nominal"]

    def run(*calls: Call | None) -> Tensor:
        for one, call in zip(slots, calls, strict=True):
            one.call = call
        return inside(live)

    def turn() -> None:
        nonlocal now
        now = 1 - now
        live.copy_(mine[now])

    def check(answer: Any, given: Any) -> float:
        worst = off(answer, expected[now]) / allowed
        if not worst <= 1:
            raise Wrong(f"the answer of {case.data} is off by {worst:.3g} times what roundings explain")
        return worst

    def with_best(able: Sequence[Kernel], bench: Bench) -> Prepared:
        found = quickest(places, able[:CANDIDATES], bench)
        calls = [one and one.call for one in found]
        return Prepared(lambda: run(*calls), executed(found, flops), note=named_in(found), hidden=True)

    @kernel(op=OP, dtypes=(case.dtype,), dense=True, keep=False)
    def torch_model(able: Sequence[Kernel], bench: Bench) -> Prepared:
        """The model as torch runs it, zeros in place."""
        return Prepared(lambda: beside(live), counted["flops_nominal"] + flops, hidden=True)

    @kernel(op=OP, dtypes=(case.dtype,), dense=True, keep=False)
    def dense_model(able: Sequence[Kernel], bench: Bench) -> Prepared:
        """The model with the quickest dense kernel in each layer, zeros in place."""
        return with_best([one for one in able if one.dense], bench)

    @kernel(op=OP, dtypes=(case.dtype,), keep=False)
    def sparse_model(able: Sequence[Kernel], bench: Bench) -> Prepared:
        """The model with the quickest sparse kernel in each layer."""
        return with_best([one for one in able if one.execution == "sparse"], bench)

    versions = torch_model, dense_model, sparse_model
    return Layer(run, check, flops, (), versions, turn, counted)


def quickest(places: Sequence[Place], able: Sequence[Kernel], bench: Bench) -> list[Placed | None]:
    """The kernel of each place that takes least time at the first place of its shape. None: none takes it.

    Refused: none takes any.
    """
    best: dict[Case, Kernel | None] = {}
    for one in places:
        if one.case not in best:
            tried = [(seconds, at) for at, each in enumerate(able) if (seconds := trial(one, each, bench))]
            best[one.case] = able[min(tried)[1]] if tried else None
    if not any(best.values()):
        raise Refused("no kernel of this kind takes a layer of the model")
    return [(of := best[one.case]) and placed(one, of) for one in places]


def trial(place: Place, of: Kernel, bench: Bench) -> float | None:
    """Seconds that a kernel takes at a place, the least of a few; None: it refuses the place, or fails there.

    From activations as layers pass them on, token-major, to such ones. Why a kernel fails is told where it
    has lines at such a shape.
    """
    if of.refusals(place.case, bench.device):
        return None
    bench.trying(of)
    given = place.operands[1].t().contiguous().t()
    try:
        made = placed(place, of)
        one = Contender(of.name, lambda: made.call(given).t().contiguous(), (made.made.holds, given))
        one.hidden = made.made.hidden
        one.timer = bench.device.timer(one, bench.cache)
        return min((found for _ in range(TRIES) if (found := one.timer.sample())), default=None)
    except Exception:  # a stranger's kernel may fail in any way
        return None


def placed(place: Place, of: Kernel) -> Placed:
    """A kernel prepared at a place."""
    live = OPS[OP].live
    operands = of.arrange(tuple(one.clone() for one in place.operands), live)
    own, made = operands[live[0]], ready(of, place.case, operands)

    def call(given: Tensor) -> Tensor:
        ready_made = of.live_order == "columns" or given.is_contiguous()
        found = made.run(given if ready_made else own.copy_(given))
        return found if isinstance(found, Tensor) else torch.from_numpy(found)

    return Placed(of, made, call)


def executed(found: Sequence[Placed | None], beside: int) -> int | None:
    """FLOPs of all kernels and of what is beside them; None: one does not tell, or stands nowhere."""
    told = [
        one and (one.made.executed() if callable(one.made.executed) else one.made.executed) for one in found
    ]
    return None if None in told else sum(each for each in told if each) + beside


def named_in(found: Sequence[Placed | None]) -> dict[str, int]:
    """How many layers each kernel has."""
    return dict(Counter(one.kernel.name if one else "torch" for one in found).most_common())


def slot(model: nn.Module, name: str) -> InPlace:
    """A place for kernels where a layer stood."""
    above, _, last = name.rpartition(".")
    made = InPlace(model.get_submodule(name))  # pyright: ignore
    setattr(model.get_submodule(above), last, made)
    return made


def standing(sparsifier: Sparsifier, name: str, given: Tensor, case: Case) -> Place:
    """A layer of the model, and the inputs that it had."""
    a = compressed(sparsifier, name, case).to(given.device)
    return Place(case.with_sizes(m=a.shape[0], k=a.shape[1], n=given.shape[1]), (a, given.contiguous()))


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
