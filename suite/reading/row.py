"""Row: one kernel on one case, over all its visits, and everything the frame says of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from statistics import median
from typing import Any

from suite.device import Ceiling
from suite.reading.about import command, identity, is_old
from suite.reading.bound import limit_in, moved
from suite.reading.statistics import Estimate, choosing, estimate, paired, reporting
from suite.record import Result, Run

NOISE_MOST = {"foreign": 0.05, "steal": 0.02, "clock_spread": 0.05, "half_width": 0.1}

SAID = {
    "foreign": "other processes took {:,.0f} % of the cores",
    "steal": "other guests took {:,.0f} % of the cores",
    "clock_spread": "the clock changed by {:,.0f} %",
    "half_width": "the interval is ±{:,.0f} % wide",
}

Visit = tuple[int, int]  # number of the file, visit within it


@dataclass
class Row:
    """One kernel on one case: all its visits."""

    first: Result
    run: Run | None
    lines: dict[Visit, Result] = field(default_factory=dict)
    energy: list[Result] = field(default_factory=list)

    @cached_property
    def wrong(self) -> bool:
        """Answered wrongly once: none of its times counts."""
        return any(line.outcome == "wrong" for line in self.lines.values())

    @cached_property
    def timed(self) -> dict[Visit, Result]:
        return {} if self.wrong else {visit: line for visit, line in self.lines.items() if line.seconds}

    @cached_property
    def chosen_by(self) -> Estimate | None:
        return estimate([choosing(line.seconds) for line in self.timed.values()])

    @cached_property
    def times(self) -> dict[Visit, float]:
        return {visit: reporting(line.seconds) for visit, line in self.timed.items()}

    @cached_property
    def setups(self) -> dict[Visit, float]:
        return {at: line.setup_seconds for at, line in self.timed.items() if line.setup_seconds is not None}

    @property
    def recall(self) -> float:
        """Of what is worth keeping, the share that its selector kept; 0 where that is not known."""
        return median([line.quality.get("recall", 0.0) for line in self.timed.values()] or [0.0])

    @property
    def failures(self) -> list[Result]:
        return [line for line in self.lines.values() if line.outcome != "ok"]

    @property
    def outcome(self) -> str:
        """Wrong once is wrong; else ok if any visit was, for the others are in the note."""
        if self.wrong:
            return "wrong"
        return "ok" if self.timed else self.first.outcome

    @property
    def note(self) -> str:
        notes = [
            line.note if not self.timed else f"visit {line.visit}: {line.outcome}: {line.note}"
            for line in self.failures
        ]
        return "; ".join(dict.fromkeys(notes)) or self.first.note

    @property
    def old(self) -> bool:
        return all(is_old(line.started) for line in self.lines.values())

    @property
    def joules(self) -> float | None:
        """Of one call: the counter's where there is one, else integrated power."""
        found = [
            line.joules_counter if line.joules_counter is not None else line.joules_integral
            for line in self.energy
        ]
        measured = [joules for joules in found if joules is not None]
        return median(measured) if measured else None

    @property
    def joules_net(self) -> float | None:
        """Of one call, beyond what the device draws idle in the same time."""
        idle = [line.idle_watts * line.seconds[0] for line in self.energy if line.idle_watts and line.seconds]
        return self.joules - median(idle) if self.joules is not None and idle else None

    @property
    def energy_note(self) -> str:
        for line in (*self.energy, *self.lines.values()):
            if line.energy_note or (line.cache == "rotating" and line.note):
                return line.energy_note or line.note
        return "" if self.joules is not None else "no energy window was chosen for it"


def tell(row: Row, best: Mapping[bool, Row | None], ceiling: Ceiling | None) -> dict[str, Any]:
    """Everything the table says of a kernel on a case."""
    line, dense = row.first, best[True]
    latency = estimate(list(row.times.values()))
    gain = paired(dense.times, row.times) if dense else None
    nominal = line.flops_nominal / line.flops_useful if line.flops_nominal and line.flops_useful else None
    made = identity(line) | {
        "outcome": row.outcome,
        "note": row.note,
        "old": row.old,
        "visits": len(row.times),
        "one_sample": any(len(line.seconds) == 1 for line in row.timed.values()),
        "best": row is best[line.dense],
        "best_dense": dense.first.kernel if dense else None,
        "best_dense_median": first_of(estimate(list(dense.times.values()))) if dense else None,
        **spread("median", latency),
        **spread("speed_up", gain),
        "nominal": nominal,
        "realised": gain.middle / nominal if gain and nominal else None,
        **reach(row, latency, ceiling),
        "setup": median(row.setups.values()) if row.setups else None,
        **pays_after(row, dense),
        "joules": row.joules,
        "joules_net": row.joules_net,
        "joules_per_flop": row.joules / line.flops_useful if row.joules and line.flops_useful else None,
        "joules_saved": dense.joules - row.joules if dense and dense.joules and row.joules else None,
        "energy_note": row.energy_note,
        "command": command(line, row.run),
    }
    return made | trust(row, latency if line.dense else gain or latency)


def spread(name: str, made: Estimate | None) -> dict[str, float | None]:
    """An estimate as its three columns; a time's interval is plainly low and high."""
    prefix = "" if name == "median" else f"{name}_"
    if made is None:
        return {name: None, f"{prefix}low": None, f"{prefix}high": None}
    return {name: made.middle, f"{prefix}low": made.low, f"{prefix}high": made.high}


def first_of(made: Estimate | None) -> float | None:
    return made.middle if made else None


def reach(row: Row, latency: Estimate | None, ceiling: Ceiling | None) -> dict[str, Any]:
    """The share of its bound a kernel reaches. Unknown where a closed library hides its bytes."""
    line = row.first
    work = {
        "flops": line.work,
        "moved": moved(line),
        "stored": None if line.bytes_values is None else line.bytes_values + (line.bytes_metadata or 0),
    }
    found = limit_in(line, row.run, ceiling) if latency and ceiling else None
    if latency is None or found is None:
        return work | {"bound": None, "roofline": None, "above_bound": False}
    return work | {
        "bound": found.seconds,
        "roofline": found.seconds / latency.middle,
        "above_bound": found.seconds > latency.middle,
    }


def pays_after(row: Row, dense: Row | None) -> dict[str, Any]:
    """Calls until the conversion has paid for itself: the middle visit's, from the least to the most."""
    nothing = {"break_even": None, "break_even_low": None, "break_even_high": None}
    if row.first.dense or not row.times:
        return nothing | {"break_even_note": ""}
    if dense is None:
        return nothing | {"break_even_note": "no dense line"}
    if not row.setups:
        return nothing | {"break_even_note": "the conversion was not timed"}
    calls = []
    for visit in row.times.keys() & dense.times.keys() & row.setups.keys():
        saved = dense.times[visit] - row.times[visit]
        calls.append(row.setups[visit] / saved if saved > 0 else inf)
    if not calls:
        return nothing | {"break_even_note": "no visit has both"}
    note = "no call is faster than dense" if median(calls) == inf else ""
    return {
        "break_even": median(calls),
        "break_even_low": min(calls),
        "break_even_high": max(calls),
        "break_even_note": note,
    }


def trust(row: Row, shown: Estimate | None) -> dict[str, Any]:
    """How much disturbed a row's visits, and in words what is too much."""
    seen = list(row.timed.values())
    clocks = [line.clock_mhz for line in seen if line.clock_mhz]
    noise = {
        "foreign": max((line.foreign for line in seen if line.foreign is not None), default=None),
        "steal": max((line.steal for line in seen if line.steal is not None), default=None),
        "clock_spread": 1 - min(clocks) / max(clocks) if clocks else None,
        "half_width": shown.half_width if shown else None,
    }
    said = [
        SAID[name].format(100 * value)
        for name, value in noise.items()
        if value is not None and value > NOISE_MOST[name]
    ]
    throttled = sorted({line.throttle for line in seen if line.throttle})
    said += [f"throttled: {', '.join(throttled)}"] if throttled else []
    said += ["some visits failed"] if seen and row.failures else []
    return noise | {"throttle": ", ".join(throttled), "disturbed": "; ".join(said)}
