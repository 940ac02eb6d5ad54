"""Layer: what stands around an op in a model, so that what a kernel gains is seen where it is of use.

A workload says what stands around the op of a case:

    def block(asked):                    # the Question of a case; None: this one is not seen in a layer
        return Layer(run, check, flops, holds)

    @workload(version=1, layer=block)

Kernels of such a case are timed a second time, each at work in the layer, in the same rounds. Their lines
have the scope "layer", the same case and the same choice.

A layer may be a whole model, in which the op stands at many places, each on operands of its own. Then
versions of the model race instead, each of which chooses among the kernels of the case (suite/whole.py).
Their lines have the scope "end_to_end".
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from suite.device import Device
from suite.kernel import Kernel


class Bench(NamedTuple):
    """Where a version of a model tries kernels. trying: says which one this process is busy with."""

    device: Device
    cache: str
    trying: Callable[[Kernel], None]


@dataclass(frozen=True)
class Layer:
    """An op's surroundings, on its device.

    run(attend): one call of all of it, with `attend(*live)` in the op's place, on the case's live operands.
    check(answer, given): the share of the tolerance an answer used, where the op gave this; raises Wrong.
    flops: beside the op's. holds: every buffer.
    versions: of a whole model, as kernels whose prepare takes (kernels, bench): those of the case that stand,
        the quickest first. Their `run` takes nothing, and nothing is given to `check`.
    turn: puts other live operands into the model, so that an answer that was kept shows itself.
    counted: FLOPs of a whole model, nominal and useful, in place of the case's own.
    """

    run: Callable[..., Any]
    check: Callable[[Any, Any], float]
    flops: int
    holds: tuple[Any, ...]
    versions: tuple[Kernel, ...] = ()
    turn: Callable[[], None] = lambda: None
    counted: dict[str, int] | None = None

    @property
    def scope(self) -> Literal["layer", "end_to_end"]:
        return "end_to_end" if self.versions else "layer"

    def stated(self, facts: dict[str, Any]) -> dict[str, Any]:
        """What lines of a case state, with the layer's own work; its bytes are not told."""
        own = self.counted or {name: facts[name] for name in ("flops_nominal", "flops_useful")}
        return facts | {name: of + self.flops for name, of in own.items()} | {"bytes_live": None}
