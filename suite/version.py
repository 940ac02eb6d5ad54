"""Version: a way to run a whole model (suite/whole.py), which chooses among the kernels of its case.

Three race, of the same weights: as torch runs it, zeros in place; with the quickest dense kernel in each
layer; with the quickest sparse one. Which is quickest at a shape is tried there, among those that were quick
on the case; a layer that none of them takes stays torch's. To bring activations into the memory order that a
kernel wants is a part of every call.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from suite.case import Case
from suite.entry import Bench
from suite.kernel import Kernel, Prepared, Refused, hashed
from suite.measure import Contender
from suite.op import OPS
from suite.pulse import trying
from suite.selector import ready
from suite.whole import OP, Call, Model, Place

CANDIDATES = 5  # kernels of a kind that are tried at each shape: those quickest on the case itself
TRIES = 3  # calls of each


@dataclass(frozen=True, eq=False)
class Version:
    """A way to run a whole model.

    prepare(model, kernels, bench): with these of the case, the quickest first. Its `run` takes nothing.
    """

    prepare: Callable[[Model, Sequence[Kernel], Bench], Prepared]
    dense: bool
    scope: ClassVar[str] = "end_to_end"

    @property
    def name(self) -> str:
        return self.prepare.__name__

    @cached_property
    def hash(self) -> str:
        """As a kernel's. Which kernels it chose, its line tells."""
        return hashed(self.prepare)

    @property
    def stated(self) -> dict[str, Any]:
        """What a line says of it, whatever became of it."""
        return {
            "kernel": self.name,
            "kernel_hash": self.hash,
            "dense": self.dense,
            "execution": "dense" if self.dense else "sparse",
            "scope": self.scope,
        }


def torch_model(model: Model, able: Sequence[Kernel], bench: Bench) -> Prepared:
    """The model as torch runs it, zeros in place."""
    return Prepared(lambda: model.plain(model.live), model.nominal + model.beside, hidden=True)


def dense_model(model: Model, able: Sequence[Kernel], bench: Bench) -> Prepared:
    """The model with the quickest dense kernel in each layer, zeros in place."""
    return with_quickest(model, [one for one in able if one.dense], bench)


def sparse_model(model: Model, able: Sequence[Kernel], bench: Bench) -> Prepared:
    """The model with the quickest sparse kernel in each layer."""
    return with_quickest(model, [one for one in able if one.execution == "sparse"], bench)


VERSIONS = {
    one.name: one
    for one in (Version(torch_model, True), Version(dense_model, True), Version(sparse_model, False))
}


class Placed(NamedTuple):
    """A kernel at a place. call: takes inputs [k, n] as layers pass them on, to [m, n]."""

    kernel: Kernel
    made: Prepared
    call: Call


def with_quickest(model: Model, able: Sequence[Kernel], bench: Bench) -> Prepared:
    """The model with the quickest of these kernels in each layer, torch's where none takes it."""
    found = quickest(model.places, able[:CANDIDATES], bench)
    calls = [one and one.call for one in found]
    kernels = Counter(one.kernel.name if one else "torch" for one in found)
    return Prepared(
        lambda: model.with_kernels(calls),
        executed(found, model.beside),
        note=dict(kernels.most_common()),
        hidden=True,
    )


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
    return [(of := best[one.case]) and placed(one, of, bench) for one in places]


def trial(place: Place, of: Kernel, bench: Bench) -> float | None:
    """Seconds that a kernel takes at a place, the least of a few; None: it refuses the place, or fails there.

    From activations as layers pass them on, token-major, to such ones. Why a kernel fails is told where it
    has lines at such a shape.
    """
    if of.refusals(place.case, bench.device):
        return None
    given = place.operands[1].t().contiguous().t()
    try:
        made, call = placed(place, of, bench)[1:]
        one = Contender(of.name, lambda: call(given).t().contiguous(), (made.holds, given), made.hidden)
        timer = bench.device.timer(one, bench.cache)
        return min((found for _ in range(TRIES) if (found := timer.sample())), default=None)
    except Exception:  # a stranger's kernel may fail in any way
        return None


def placed(place: Place, of: Kernel, bench: Bench) -> Placed:
    """A kernel prepared at a place."""
    bench.beat(trying(of.name))
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
