"""Entry: a kernel in a visit, and what becomes of it, from its terms to its line."""

from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch

from suite.check import Wrong
from suite.claims import Claims
from suite.device import Noise
from suite.energy import Energy
from suite.kernel import Kernel, Prepared, Refused
from suite.layer import Layer
from suite.measure import Contender
from suite.record import Outcome, four_digits
from suite.registry import Unusable

STARVED = ("not enough memory", "can't allocate memory", "alloc_cpu", "bad allocation")  # as torch words it


@dataclass
class Entry:
    """A kernel in this visit, and what became of it."""

    kernel: Kernel
    made: Prepared | None = None
    live: tuple[Any, ...] = ()  # its own copies: what it does to them is its own loss
    contender: Contender | None = None
    selecting: Contender | None = None  # the selector alone
    claims: Claims | None = None
    outcome: Outcome = "ok"
    note: str = ""
    error: float | None = None
    setup: float | None = None
    compile: float | None = None
    peak: int | None = None
    recent: float = 0.0
    energy: Energy | None = None
    energy_note: str = ""
    chosen: dict[str, Any] = field(default_factory=dict)  # what its line states of what it chose
    inside: "Entry | None" = None  # of one at work in a layer: the kernel by itself
    layer: Layer | None = None

    def end(self, outcome: Outcome, note: str) -> None:
        """Let go of everything it holds; what is left is a line."""
        self.outcome, self.note = outcome, note[:500]
        self.made = self.contender = self.selecting = None
        self.live = ()

    def measured(self, noise: Noise, meter: str | None) -> dict[str, Any]:
        """What of it was measured, in the words of a line; `meter` is what told the energy."""
        measured: dict[str, Any] = {}
        if self.outcome == "ok" and self.claims:
            measured = {
                "error": four_digits(self.error or 0.0),
                "setup_seconds": self.setup and four_digits(self.setup),
                "compile_seconds": four_digits(self.compile or 0.0),
                "peak_bytes": self.peak,
                "flops_executed": self.claims.executed,
                "bytes_values": self.claims.values,
                "bytes_metadata": self.claims.metadata,
                "algorithm": self.claims.algorithm,
                "executed_pattern": self.claims.executed_pattern,
                "foreign": noise.foreign,
                "steal": noise.steal,
                "clock_mhz": noise.clock_mhz,
                "throttle": noise.throttle,
            }
        if contender := self.contender:
            measured |= {
                "seconds": [four_digits(second) for second in contender.seconds],
                "calls": len(contender.seconds),
                "discarded": contender.discarded,
                "timer": contender.timer and contender.timer.name,
                "stopped": contender.stopped,
            }
        if self.selecting and self.selecting.seconds:
            measured["select_seconds"] = four_digits(median(self.selecting.seconds))
        if energy := self.energy:
            measured |= {
                "seconds": [four_digits(energy.seconds)],
                "calls": energy.calls,
                "timer": "window",
                "joules_counter": energy.counter and four_digits(energy.counter),
                "joules_integral": energy.integral and four_digits(energy.integral),
                "idle_watts": energy.idle_watts and four_digits(energy.idle_watts),
                "energy_source": meter,
            }
        return measured


def failure(failed: BaseException) -> tuple[Outcome, str]:
    """The outcome that an exception means, and the sentence for the line."""
    says = f"{type(failed).__name__}: {failed}".strip().partition("\n")[0]
    if isinstance(failed, Wrong):
        return "wrong", str(failed)
    if isinstance(failed, Refused | Unusable):
        return "refused", str(failed)
    starved = isinstance(failed, MemoryError | torch.OutOfMemoryError)
    if starved or any(words in says for words in STARVED):
        return "memory", says
    return "broken", says
