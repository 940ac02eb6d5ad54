"""Metered: a kernel by itself in an energy window over rotating operands, in the place of a race."""

from dataclasses import dataclass, field
from typing import Any

from suite.alone import Alone
from suite.energy import Energy, meter_calls
from suite.kernel import Refused
from suite.record import four_digits


@dataclass
class Metered(Alone):
    """A kernel whose calls' joules are measured."""

    energy: Energy = field(init=False)

    def enter(self) -> None:
        """Into a window of its own."""
        device, beat = self.bench.device, lambda: self.bench.beat("metering")
        if device.meter is None:
            raise Refused(device.no_meter)
        beat()
        first = self.contend(self.made, self.live, self.asked)
        turns = [first, *(self.another() for _ in range(device.rotation(first) - 1))]
        bursts = device.bursts([each.call for each in turns])
        try:
            self.energy = meter_calls(bursts, device.meter, beat=beat, wait=device.wait)
        except OSError as silent:
            raise Refused(str(silent)) from None

    def check_again(self) -> None:
        """The answer to other numbers: those of a window are not kept."""
        self.bench.beat("checking again")
        self.check_other()

    @property
    def energy_note(self) -> str | None:
        return self.energy.note or None if self.stands else self.note

    def sampled(self) -> dict[str, Any]:
        """One call of the window, and its joules."""
        meter, energy = self.bench.device.meter, self.energy
        return {
            "seconds": [four_digits(energy.seconds)],
            "calls": energy.calls,
            "timer": "window",
            "joules_counter": energy.counter and four_digits(energy.counter),
            "joules_integral": energy.integral and four_digits(energy.integral),
            "idle_watts": energy.idle_watts and four_digits(energy.idle_watts),
            "energy_source": meter and meter.source,
        }
