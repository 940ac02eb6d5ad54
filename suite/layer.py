"""Layer: what stands around an op in a model, so that what a kernel gains is seen where it is of use.

A workload says what stands around the op of a case:

    def block(asked):                    # the Question of a case; None: this one is not seen in a layer
        return Layer(run, check, flops, holds)

    @workload(version=1, layer=block)

Kernels of such a case are timed a second time, each at work in the layer, in the same rounds. Their lines
have the scope "layer", the same case and the same choice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from suite.alone import Alone
from suite.check import Question, check
from suite.entry import Entry, lost
from suite.held import size
from suite.kernel import Kernel
from suite.measure import Contender

SCOPE = "layer"


@dataclass(frozen=True)
class Layer:
    """An op's surroundings, on its device.

    run(attend): one call of all of it, with `attend(*live)` in the op's place, on the case's live operands.
    check(answer, given): the share of the tolerance an answer used, where the op gave this; raises Wrong.
    flops: beside the op's. holds: every buffer.
    """

    run: Callable[..., Any]
    check: Callable[[Any, Any], float]
    flops: int
    holds: tuple[Any, ...]

    def stated(self, facts: dict[str, Any]) -> dict[str, Any]:
        """What lines of a case state, with the layer's own work; its bytes are not told."""
        added = {name: facts[name] + self.flops for name in ("flops_nominal", "flops_useful")}
        return facts | added | {"bytes_live": None}


@dataclass(kw_only=True)
class InLayer(Entry[Kernel]):
    """A kernel at work in a layer, as it is prepared by itself."""

    scope: str = SCOPE
    alone: Alone
    layer: Layer

    @property
    def stands(self) -> bool:
        return super().stands and self.alone.stands

    def stated(self, facts: dict[str, Any]) -> dict[str, Any]:
        return self.layer.stated(self.alone.stated(facts))

    def enter(self) -> None:
        """Into the race, at work in its layer."""
        self.bench.beat("timing")
        layer, made, claims = self.layer, self.alone.made, self.alone.claims
        held = made.holds, layer.holds
        touched = 0 if made.hidden else size(held)
        call = Contender(self.of.name, lambda: layer.run(made.run), held, made.hidden, touched)
        self.contenders = [self.bench.timed(call)]
        executed = None if claims.executed is None else claims.executed + layer.flops
        self.claims = replace(claims, executed=executed, values=None, metadata=None)

    def check_again(self) -> None:
        """What the kernel answers at work in its layer, and what the layer makes of it."""
        self.bench.beat("checking again")
        run, given = self.alone.made.run, []

        def attend(*live: Any) -> Any:
            given.append(run(*live))
            return given[-1]

        again = self.layer.run(attend)
        check(given[0], self.alone.asked)
        self.error = max(self.layer.check(answer, given[0]) for answer in (self.contenders[0].answer, again))


def at_work(
    around: Callable[[Question], Layer | None], asked: Question, alone: Sequence[Alone]
) -> list[Entry]:
    """Each of these kernels at work in the layer of the case; none where it has none."""
    try:
        layer = around(asked)
    except Exception as failed:
        return [lost(one.of, one.bench, SCOPE, failed) for one in alone]
    return [InLayer(one.of, one.bench, alone=one, layer=layer) for one in alone] if layer else []
