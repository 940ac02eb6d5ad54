"""Entry: what takes part in a visit, and what becomes of it, up to its line.

There are three kinds, one for each scope that lines have: a kernel by itself (suite/alone.py), the same at
work in a layer (suite/layer.py), and a version of a whole model (suite/end_to_end.py). Each is entered in the
race with what it has prepared, and has its answers checked again afterwards, in its own way.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import Any, Generic, TypeVar

import torch

from suite.check import Wrong
from suite.claims import Claims
from suite.device import Device, Noise
from suite.kernel import Refused
from suite.measure import Contender
from suite.record import Outcome, four_digits
from suite.registry import Unusable
from suite.stated import Raced

STARVED = ("not enough memory", "can't allocate memory", "alloc_cpu", "bad allocation")  # as torch words it

NOT_CHOSEN = "not chosen: energy is metered for the best dense and the best sparse kernel of a group"

NOTHING_SAID = Claims(None, None, None, None)

Of = TypeVar("Of", bound=Raced)


@dataclass(frozen=True)
class Bench:
    """Where an entry is prepared and timed. beat(stage): says that this process is alive, at what of it."""

    device: Device
    cache: str
    beat: Callable[[str], None]

    def clocked(self, make: Callable[[], Any]) -> tuple[float, Any]:
        """Seconds it takes to make something, the device's work included, and the thing."""
        began = perf_counter()
        made = make()
        self.device.wait()
        return perf_counter() - began, made

    def timed(self, one: Contender) -> Contender:
        """The same, with the timer that its device chooses for it."""
        one.timer = self.device.timer(one, self.cache)
        return one


@dataclass
class Entry(Generic[Of]):
    """What takes part in a visit, and what becomes of it.

    contenders: in the race its call, and after that a part of the call that is timed beside it.
    """

    of: Of
    bench: Bench
    scope: str
    outcome: Outcome = "ok"
    note: str = ""
    contenders: list[Contender] = field(default_factory=list)
    claims: Claims = NOTHING_SAID
    error: float = 0.0
    setup: float | None = None
    compile: float = 0.0
    peak: int | None = None

    def enter(self) -> None:
        """Into the race."""

    def check_again(self) -> None:
        """Raises Wrong: the last timed answer, or one to other numbers, is not right."""

    @property
    def stands(self) -> bool:
        """Whether nothing has ended it yet."""
        return self.outcome == "ok"

    def attempt(self, step: Callable[..., None], *given: Any) -> None:
        """One step of it, while it stands; any way in which that can fail becomes its outcome."""
        if not self.stands:
            return
        try:
            step(*given)
        except KeyboardInterrupt:
            raise
        except BaseException as failed:  # SystemExit too: a kernel may fail in any way at all
            self.end(*failure(failed))
            gc.collect()

    def end(self, outcome: Outcome, note: str) -> None:
        """Let go of everything it holds; what is left is a line."""
        self.outcome, self.note = outcome, note[:500]
        self.contenders = []

    def told(self, facts: dict[str, Any], noise: Noise) -> dict[str, Any]:
        """Its line, but for what `describe` says. facts: what all lines of the case state."""
        about = {"scope": self.scope, "outcome": self.outcome, "note": self.note}
        found = self.measured() | vars(noise) if self.outcome == "ok" else {}
        return about | {"energy_note": self.energy_note} | self.stated(facts) | found

    def stated(self, facts: dict[str, Any]) -> dict[str, Any]:
        """What its line states of the work, of the facts of the case."""
        return facts

    @property
    def energy_note(self) -> str | None:
        """Why its line has no joules, or what is wrong with them."""
        return NOT_CHOSEN if self.bench.device.meter else self.bench.device.no_meter

    def measured(self) -> dict[str, Any]:
        """What of it was measured, in the words of a line."""
        return {
            "error": four_digits(self.error),
            "setup_seconds": self.setup and four_digits(self.setup),
            "compile_seconds": four_digits(self.compile),
            "peak_bytes": self.peak,
            "flops_executed": self.claims.executed,
            "bytes_values": self.claims.values,
            "bytes_metadata": self.claims.metadata,
            "algorithm": self.claims.algorithm,
            "executed_pattern": self.claims.executed_pattern,
            **self.sampled(),
        }

    def sampled(self) -> dict[str, Any]:
        """The times of its calls, and how they were taken."""
        call, *parts = self.contenders
        return {
            "seconds": [four_digits(second) for second in call.seconds],
            "calls": len(call.seconds),
            "discarded": call.discarded,
            "timer": call.timer and call.timer.name,
            "stopped": call.stopped,
            "select_seconds": four_digits(median(parts[0].seconds)) if parts else None,
        }


def lost(of: Raced, bench: Bench, scope: str, failed: BaseException) -> Entry:
    """What came to nothing before there was anything to enter it in."""
    made = Entry(of, bench, scope)
    made.end(*failure(failed))
    return made


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
