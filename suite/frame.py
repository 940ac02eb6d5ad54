"""Frame: results files as a tidy table, a row for each kernel on each case (and cache, and device).

Which kernel is the best of a case is chosen on the odd samples of every visit; every time, ratio and interval
in the table comes from the even ones. Ratios are paired by visit. Failed kernels stay, with their reason.
"""

import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from math import inf
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from suite import record
from suite.case import REGIMES
from suite.device import Ceiling
from suite.op import discover_parts
from suite.pattern import Pattern, parse
from suite.record import Ceilings, Recorded, Result, Run
from suite.registry import Unusable
from suite.statistics import Estimate, choosing, estimate, paired, reporting

NOISE_MOST = {"foreign": 0.05, "steal": 0.02, "clock_spread": 0.05, "half_width": 0.1}

SAID = {
    "foreign": "other processes took {:.0%} of the cores",
    "steal": "other guests took {:.0%} of the cores",
    "clock_spread": "the clock changed by {:.0%}",
    "half_width": "the interval is ±{:.0%} wide",
}

COLUMNS = {
    "as recorded": """
device workload op case data pattern dtype seed kernel kernel_hash cache threads dense execution scope
selector algorithm""",
    "words": """
sizes family line regime outcome note best_dense break_even_note energy_note throttle disturbed command""",
    "flags": "best one_sample above_bound",
    "numbers": """
m k n sparsity visits median low high best_dense_median speed_up speed_up_low speed_up_high nominal realised
bound roofline setup break_even break_even_low break_even_high joules joules_saved
foreign steal clock_spread half_width""",
}

Rows = Any  # some rows of the frame. By pandas's own annotations any column may be anything
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
    def joules(self) -> float | None:
        """Of one call: the counter's where there is one, else integrated power."""
        found = [
            line.joules_counter if line.joules_counter is not None else line.joules_integral
            for line in self.energy
        ]
        measured = [joules for joules in found if joules is not None]
        return median(measured) if measured else None

    @property
    def energy_note(self) -> str:
        for line in (*self.energy, *self.lines.values()):
            if line.energy_note or (line.cache == "rotating" and line.note):
                return line.energy_note or line.note
        return "" if self.joules is not None else "no energy window was chosen for it"


def read(*files: Path | str) -> pd.DataFrame:
    """The tidy table of results files. `attrs` tells how many lines of older kernels were left out."""
    return tidy([record.read(Path(file)) for file in files])


def tidy(recorded: Sequence[Recorded]) -> pd.DataFrame:
    """The same, of files already read. Lines with a fault, and files of another schema, are not used."""
    lines = [
        (number, one.run, line)
        for number, one in enumerate(recorded)
        if one.run is not None and not record.faults_of(one.run)
        for line in one.results
        if not record.faults_of(line)
    ]
    return made_of(lines, ceilings_of(recorded))


def from_lines(lines: Iterable[Result]) -> pd.DataFrame:
    """The same, of lines that are in no file."""
    return made_of([(0, None, line) for line in lines], {})


def made_of(lines: Sequence[tuple[int, Run | None, Result]], ceilings: Mapping[str, Ceiling]) -> pd.DataFrame:
    """Lines with the number of their file and its header, as rows."""
    discover_parts()
    newest = newest_hashes(line for _, _, line in lines)
    current = [found for found in lines if newest[found[2].device, found[2].kernel] == found[2].kernel_hash]
    told: list[dict[str, Any]] = []
    for group in grouped(current).values():
        best = {
            True: fastest([row for row in group if row.first.dense]),
            # Masked and simulated sparsity skip no zeros: shown, but never the answer.
            False: fastest([row for row in group if not row.first.dense and row.first.execution == "sparse"]),
        }
        told += [tell(row, best, ceilings.get(row.first.device)) for row in group]
    frame = pd.DataFrame(told, columns=[name for names in COLUMNS.values() for name in names.split()])
    kinds: dict[str, Any] = dict.fromkeys(COLUMNS["numbers"].split(), float)
    kinds |= dict.fromkeys((*COLUMNS["flags"].split(), "dense"), bool)
    kinds |= dict.fromkeys(("visits", "seed", "threads"), int)
    frame = frame.astype(kinds)
    frame.attrs["superseded"] = len(lines) - len(current)
    return frame


def newest_hashes(lines: Iterable[Result]) -> dict[tuple[str, str], str]:
    """The version of each kernel measured last on each device: another hash is another kernel."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for line in lines:
        key = line.device, line.kernel
        found[key] = max(found.get(key, ("", "")), (line.started, line.kernel_hash))
    return {key: hash for key, (_, hash) in found.items()}


def ceilings_of(recorded: Iterable[Recorded]) -> dict[str, Ceiling]:
    """The best each device was seen to do, over all windows of all processes."""
    made: dict[str, Ceiling] = {}
    for line in (line for one in recorded for line in one.lines if isinstance(line, Ceilings)):
        best = made.setdefault(line.device, Ceiling())
        for have, more in ((best.flops, line.flops), (best.bandwidth, line.bandwidth)):
            for name, rate in more.items():
                have[name] = max(have.get(name, 0.0), rate)
    return made


def grouped(lines: Iterable[tuple[int, Run | None, Result]]) -> dict[tuple, list[Row]]:
    """Rows that compete: same device, workload, case, scope, cache, threads. Energy windows join them."""
    rows: dict[tuple, dict[tuple, Row]] = defaultdict(dict)
    windows: list[Result] = []
    for number, run, line in lines:
        if line.cache == "rotating":
            windows.append(line)
            continue
        group = rows[line.device, line.workload, line.case, line.scope, line.cache, line.threads]
        row = group.setdefault((line.kernel, line.selector), Row(line, run))
        row.lines[number, line.visit] = line
    for window in windows:
        for state in ("cold", "hot"):
            key = (window.device, window.workload, window.case, window.scope, state, window.threads)
            if row := rows.get(key, {}).get((window.kernel, window.selector)):
                row.energy.append(window)
    return {key: list(group.values()) for key, group in rows.items()}


def fastest(rows: Sequence[Row]) -> Row | None:
    """The best by the odd samples, of those timed in the most visits: a visit missed may be the slow one."""
    most = max((len(row.timed) for row in rows), default=0)
    able = [(row.chosen_by.middle, row) for row in rows if row.chosen_by and len(row.timed) == most]
    return min(able, key=lambda pair: pair[0])[1] if able else None


def tell(row: Row, best: Mapping[bool, Row | None], ceiling: Ceiling | None) -> dict[str, Any]:
    """Everything the table says of a kernel on a case."""
    line, dense = row.first, best[True]
    latency = estimate(list(row.times.values()))
    gain = paired(dense.times, row.times) if dense else None
    nominal = line.flops_nominal / line.flops_useful if line.flops_nominal and line.flops_useful else None
    made = identity(line) | {
        "outcome": row.outcome,
        "note": row.note,
        "visits": len(row.times),
        "one_sample": any(len(line.seconds) == 1 for line in row.timed.values()),
        "best": row is best[line.dense],
        "best_dense": dense.first.kernel if dense else None,
        "best_dense_median": first_of(estimate(list(dense.times.values()))) if dense else None,
        **spread("median", latency),
        **spread("speed_up", gain),
        "nominal": nominal,
        "realised": gain.middle / nominal if gain and nominal else None,
        **reach(line, latency, ceiling),
        "setup": median(row.setups.values()) if row.setups else None,
        **pays_after(row, dense),
        "joules": row.joules,
        "joules_saved": dense.joules - row.joules if dense and dense.joules and row.joules else None,
        "energy_note": row.energy_note,
        "command": command(line, row.run),
    }
    return made | trust(row, latency if line.dense else gain or latency)


def identity(line: Result) -> dict[str, Any]:
    """What a line is about."""
    pattern = pattern_of(line.pattern)
    m, k, n = (line.sizes.get(size) for size in "mkn")
    return {name: getattr(line, name) for name in COLUMNS["as recorded"].split()} | {
        "m": m,
        "k": k,
        "n": n,
        "sizes": sizes_of(line.sizes),
        "family": pattern.family if pattern else family_of(line.pattern),
        "line": line.pattern.partition("@")[0] if "@" in line.pattern else family_of(line.pattern),
        "sparsity": line.sparsity if line.sparsity is not None else promised(pattern, m, k),
        "regime": line.phase or (next(name for most, name in REGIMES if n <= most) if n else "any size"),
    }


def sizes_of(sizes: Mapping[str, int]) -> str:
    """Sizes as a reader says them: 4096 × 1024, n 64."""
    if list(sizes) == ["m", "k", "n"]:
        return f"{sizes['m']} × {sizes['k']}, n {sizes['n']}"
    return ", ".join(f"{name} {size}" for name, size in sizes.items())


@cache
def pattern_of(text: str) -> Pattern | None:
    """The pattern that prints so; None for one that came from a plug-in that is not here."""
    try:
        return parse(text)
    except Unusable:
        return None


def promised(pattern: Pattern | None, m: int | None, k: int | None) -> float | None:
    """The sparsity of a line whose operand was never made: its kernel was refused."""
    try:
        return pattern.sparsity_of(m, k) if pattern and m and k else None
    except Unusable:  # known from a file alone
        return None


def family_of(text: str) -> str:
    """What to call a pattern: its class's word, or its spelling with parameters left out."""
    if known := pattern_of(text):
        return known.family
    if re.fullmatch(r"\d+:\d+", text):
        return "N:M"
    return re.match(r"\D*", text.partition("@")[0])[0].strip(" -_") or text  # pyright: ignore


def spread(name: str, made: Estimate | None) -> dict[str, float | None]:
    """An estimate as its three columns; a time's interval is plainly low and high."""
    prefix = "" if name == "median" else f"{name}_"
    if made is None:
        return {name: None, f"{prefix}low": None, f"{prefix}high": None}
    return {name: made.middle, f"{prefix}low": made.low, f"{prefix}high": made.high}


def first_of(made: Estimate | None) -> float | None:
    return made.middle if made else None


def reach(line: Result, latency: Estimate | None, ceiling: Ceiling | None) -> dict[str, Any]:
    """The share of its roofline a kernel reaches. Unknown where a closed library hides its bytes.

    Cold operands come from memory. Hot ones come from some cache; the fastest level measured is the one bound
    that holds whichever it is.
    """
    nothing = {"bound": None, "roofline": None, "above_bound": False}
    flops = line.flops_executed if line.flops_executed is not None else line.flops_useful
    if (
        latency is None
        or ceiling is None
        or flops is None
        or line.bytes_values is None
        or line.bytes_live is None
    ):
        return nothing
    level = (
        "memory"
        if line.cache == "cold"
        else max(ceiling.bandwidth, key=ceiling.bandwidth.__getitem__, default="")
    )
    moved = line.bytes_values + (line.bytes_metadata or 0) + line.bytes_live
    bound = ceiling.bound(line.dtype, flops, moved, level)
    if bound is None:
        return nothing
    return {
        "bound": bound,
        "roofline": bound / latency.middle,
        "above_bound": bound > latency.middle,
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
        SAID[name].format(value)
        for name, value in noise.items()
        if value is not None and value > NOISE_MOST[name]
    ]
    throttled = sorted({line.throttle for line in seen if line.throttle})
    said += [f"throttled: {', '.join(throttled)}"] if throttled else []
    said += ["some visits failed"] if seen and row.failures else []
    return noise | {"throttle": ", ".join(throttled), "disturbed": "; ".join(said)}


def command(line: Result, run: Run | None) -> str:
    """What to type to measure this again."""
    words = ["sparsemark", "run", line.workload, "--case", line.case, "--kernels", line.kernel]
    if line.data:
        words += ["--matrix", re.sub(r"-[0-9a-f]{8}$", "", line.data)]
    if line.cache != "cold":
        words += ["--cache", line.cache]
    for plugin in run.plugins if run else ():
        words += ["--plugin", plugin["file"]] if "file" in plugin else []
    return shlex.join(words)
