"""Opened: a file of results as it was recorded, whichever of the two kinds it is.

Runs of sparsemark are lines (`.jsonl`); pytest-benchmark's `--benchmark-json` (`.json`) holds the same lines
in each benchmark's `extra_info`, beside its samples, and the header in `machine_info`.
"""

from pathlib import Path
from typing import Any

import msgspec

from suite import record
from suite.record import Fault, Recorded, Result, Run

ENDINGS = (".jsonl", ".json")

ABOUT = "sparsemark"  # the key of the header in machine_info

SAMPLES = "seconds"  # of a line, which a benchmark's own statistics hold
BESIDE = "beside"  # in extra_info: the dense kernels that took turns with this one, as lines


def opened(file: Path | str) -> Recorded:
    """What is in a results file."""
    file = Path(file)
    return benchmarks(file) if file.suffix == ".json" else record.read(file)


class Benchmark(msgspec.Struct):
    """What of a benchmark is read."""

    fullname: str = ""
    extra_info: dict[str, Any] | None = None
    stats: dict[str, Any] = {}


class Saved(msgspec.Struct):
    """What of pytest-benchmark's file is read."""

    benchmarks: list[Benchmark]
    machine_info: dict[str, Any] | None = None
    datetime: str = ""


def benchmarks(file: Path) -> Recorded:
    """pytest-benchmark's file: what of it sparsemark measured. That there is more is a fault."""
    try:
        told = msgspec.json.decode(file.read_bytes(), type=Saved)
    except msgspec.DecodeError as wrong:
        fault = Fault(str(file), 1, f"not a file that `pytest --benchmark-json` wrote: {wrong}")
        return Recorded(file, None, [], [fault], torn=False)
    run, faults, lines = header(told), [], []
    ours = [one for one in told.benchmarks if "kernel_hash" in (one.extra_info or {})]
    if others := len(told.benchmarks) - len(ours):
        faults.append(f"{others} {'benchmark is' if others == 1 else 'benchmarks are'} not sparsemark's")
    for one in ours:
        try:
            found = lines_of(one)
        except msgspec.ValidationError as wrong:
            faults.append(f"{one.fullname}: {wrong}")
            continue
        lines += found
        faults += [f"{one.fullname}: {says}" for says in record.faults_of(found[0])]
    if run is None:
        faults.append("machine_info says nothing of sparsemark that can be read: the file has no header")
    said = [Fault(str(file), 1, says) for says in faults]
    return Recorded(file, run, [*([run] if run else []), *lines], said, torn=False)


def lines_of(one: Benchmark) -> list[Result]:
    """A benchmark's own line, and those beside it."""
    about = dict(one.extra_info or {})
    beside = about.pop(BESIDE, [])
    samples = {SAMPLES: one.stats.get("data", [])}
    return [msgspec.convert(about | samples, Result), *msgspec.convert(beside, list[Result])]


def header(told: Saved) -> Run | None:
    """The run line that a file's machine_info amounts to."""
    about = (told.machine_info or {}).get(ABOUT)
    if not isinstance(about, dict):
        return None
    try:
        return msgspec.convert({**about, "started": told.datetime}, Run)
    except msgspec.ValidationError:
        return None


def without_samples(line: Result) -> dict[str, Any]:
    """What a benchmark's extra_info holds of a line: everything that says something, its samples excepted."""
    whole = msgspec.to_builtins(line)
    return {
        name: value for name, value in whole.items() if name != SAMPLES and value not in (None, {}, [], "")
    }
