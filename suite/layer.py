"""Layer: what stands around an op in a model, so that what a kernel gains is seen where it is of use.

A workload says what stands around the op of a case:

    def block(asked):                    # the Question of a case; None: this one is not seen in a layer
        return Layer(run, check, flops, holds)

    @workload(version=1, layer=block)

Kernels of such a case are timed a second time, each at work in the layer, in the same rounds. Their lines
have the scope "layer", the same case and the same choice.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Layer:
    """An op's surroundings, on its device.

    run(attend): one call of all of it, with `attend(*live)` in the op's place, on the case's live operands.
    check(answer, given): the share of the tolerance an answer used, where the op gave this; raises Wrong.
    flops: beside the op's. holds: every buffer.
    """

    run: Callable[[Callable[..., Any]], Any]
    check: Callable[[Any, Any], float]
    flops: int
    holds: tuple[Any, ...]

    def stated(self, facts: dict[str, Any]) -> dict[str, Any]:
        """What lines of a case state, with the layer's own work; its bytes are not told."""
        counted = ("flops_nominal", "flops_useful")
        return facts | {name: facts[name] + self.flops for name in counted} | {"bytes_live": None}
