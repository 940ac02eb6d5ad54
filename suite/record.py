"""Record: the lines of a results file, and nothing that can be derived from them.

The first line is a Run; every other is a Result or a Score (and a Ceilings line where a process measured the
device again). `null` is "not measured". Times are in seconds, energy in joules, sizes in bytes.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from suite.registry import Unusable

SCHEMA = 1

Outcome = Literal["ok", "refused", "wrong", "broken", "timeout", "memory"]


class Line(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """One line of a results file."""


class Run(Line, tag="run"):
    """The first line: what was measured where, with what. No host, user, path or serial number."""

    schema: int
    version: str
    started: str
    commit: str | None = None
    workloads: dict[str, int] = {}  # name -> version of its case set
    planned: int | None = None  # pairs of kernel and case that a complete run has
    elsewhere: dict[str, int] = {}  # kind of device -> how many kernels there are for it, not run here
    devices: dict[str, dict[str, Any]] = {}  # key -> kind, name and what its fingerprint holds
    libraries: dict[str, str] = {}
    plugins: list[dict[str, Any]] = []
    options: dict[str, Any] = {}


class Ceilings(Line, tag="ceilings"):
    """What the device was seen to reach: the best of this process's windows. Readers take the best of all.

    flops: dtype -> FLOP/s. bandwidth: level -> byte/s read ("L1", "L2", "L3", "memory").
    """

    device: str
    flops: dict[str, float]
    bandwidth: dict[str, float]
    started: str


class Result(Line, tag="result"):
    """What came of one kernel on one case on one device in one visit."""

    device: str
    workload: str
    op: str
    case: str
    sizes: dict[str, int]
    pattern: str
    dtype: str
    seed: int
    kernel: str
    kernel_hash: str
    outcome: Outcome
    visit: int
    threads: int
    started: str
    cache: Literal["cold", "hot", "rotating"] = "cold"
    executed_pattern: str | None = None
    sparsity: float | None = None  # counted on the operand
    structure: dict[str, float | None] = {}
    data: str = ""
    scope: Literal["kernel", "layer", "step", "end_to_end"] = "kernel"
    phase: str | None = None  # the regime: decode, small batch, prefill
    dense: bool = False  # a baseline kernel
    ids: list[str] = []
    selector: str | None = None
    algorithm: str | None = None
    execution: Literal["sparse", "dense", "masked", "simulated"] = "sparse"
    note: str = ""  # why, unless ok
    error: float | None = None  # the fraction of the tolerance used
    seconds: list[float] = []
    calls: int = 0  # how many samples there were; `seconds` keeps at most 1,000 of them
    discarded: int = 0  # samples that did not count: the device was slowed, or its clock had not risen
    timer: str | None = None  # "host", "events", "graph"; "window" of energy
    stopped: Literal["precise", "cap"] | None = None
    foreign: float | None = None  # share of the pinned cores' time that others took
    steal: float | None = None
    clock_mhz: float | None = None
    throttle: str | None = None
    setup_seconds: float | None = None
    compile_seconds: float | None = None
    select_seconds: float | None = None
    joules_counter: float | None = None  # of one call
    joules_integral: float | None = None
    idle_watts: float | None = None
    energy_source: str | None = None
    energy_note: str | None = None
    flops_nominal: int | None = None
    flops_useful: int | None = None
    flops_executed: int | None = None
    bytes_values: int | None = None
    bytes_metadata: int | None = None
    bytes_live: int | None = None  # live operands touched and the answer
    peak_bytes: int | None = None
    quality: dict[str, float] = {}

    @property
    def key(self) -> tuple:
        """What `--resume` goes by."""
        return self.case, self.kernel, self.kernel_hash, self.cache, self.threads, self.visit


class Score(Line, tag="score"):
    """What came of one method on one task at one sparsity, pattern and seed."""

    device: str
    task: str
    protocol: str
    data: str
    method: str
    pattern: str
    sparsity: float
    seed: int
    metric: str
    outcome: Outcome
    started: str
    criterion: str | None = None
    allocator: str | None = None
    refiner: str | None = None
    trainer: str | None = None
    ids: list[str] = []
    layers: list[dict[str, Any]] = []
    value: float | None = None
    dense_value: float | None = None
    train_flops: float | None = None
    train_tokens: int | None = None
    infer_flops: float | None = None
    tuning_runs: int | None = None
    nonzeros: int | None = None
    bytes: int | None = None
    iso: str | None = None
    seconds: float | None = None
    joules_counter: float | None = None
    execution: Literal["sparse", "dense", "masked", "simulated"] = "simulated"
    note: str = ""


Any_Line = Run | Ceilings | Result | Score

_decoder = msgspec.json.Decoder(Any_Line)


@dataclass(frozen=True)
class Fault:
    """What is wrong with a line of a file."""

    file: str
    line: int
    says: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.says}"


@dataclass(frozen=True)
class Recorded:
    """A results file as read: its lines, the faults of those that could not be, and if its end was torn."""

    file: Path
    run: Run | None
    lines: list[Any_Line]
    faults: list[Fault]
    torn: bool

    @property
    def results(self) -> list[Result]:
        return [line for line in self.lines if isinstance(line, Result)]


def encode(line: Line) -> bytes:
    """One line of JSON, times to four digits."""
    return msgspec.json.encode(line) + b"\n"


def four_digits(seconds: float) -> float:
    """More digits than any timer has."""
    return float(f"{seconds:.4g}")


def lines(raw: bytes) -> Iterator[tuple[int, bytes, bool]]:
    """(number, text, whole) of each line; only the last may lack its end."""
    parts = raw.split(b"\n")
    for number, text in enumerate(parts, 1):
        if text.strip():
            yield number, text, number < len(parts)


def faults_of(line: Any_Line) -> list[str]:
    """What a line says that cannot be, beyond its types."""
    if isinstance(line, Run) and line.schema != SCHEMA:
        return [f"schema {line.schema} is not {SCHEMA}; this sparsemark cannot read it"]
    if not isinstance(line, Result):
        return []
    said = []
    if line.outcome == "ok" and not line.seconds and line.joules_counter is None:
        said.append("outcome is ok, but nothing was measured")
    if line.outcome != "ok" and line.seconds:
        said.append(f"outcome is {line.outcome}, yet it has times")
    if line.outcome != "ok" and not line.note:
        said.append(f"outcome is {line.outcome}, and the note does not say why")
    if any(not 0 < second < float("inf") for second in line.seconds):
        said.append("a time is not positive")
    if line.joules_counter == 0 or line.joules_integral == 0:
        said.append("energy is 0; not measured is null")
    if (line.flops_executed or line.flops_useful or 0) < (line.flops_useful or 0):
        said.append("fewer FLOPs executed than are useful")
    return said


def read(file: Path) -> Recorded:
    """Every line of a results file; what is damaged is named, never skipped in silence."""
    run, found, faults, torn = None, [], [], False
    keys: dict[tuple, int] = {}
    for number, text, whole in lines(file.read_bytes()):
        if not whole:
            torn = True  # a killed run leaves it; even if it parses, another line would be glued to it
            break
        try:
            line = _decoder.decode(text)
        except (msgspec.ValidationError, msgspec.DecodeError) as wrong:
            faults.append(Fault(str(file), number, str(wrong)))
            continue
        for says in faults_of(line):
            faults.append(Fault(str(file), number, says))
        if isinstance(line, Result) and (first := keys.setdefault(line.key, number)) != number:
            faults.append(Fault(str(file), number, f"the same measurement as line {first}"))
        if isinstance(line, Run):
            if run is not None or found:
                faults.append(Fault(str(file), number, "a run line that is not the first"))
            run = run or line
        found.append(line)
    if run is None:
        faults.append(Fault(str(file), 1, "the first line is not a run: the file has no header"))
    return Recorded(file, run, found, faults, torn)


class Writer:
    """Appends lines to a results file, each whole and on disk's way as soon as it exists."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self.file = file
        self._descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, line: Line) -> None:
        left = encode(line)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as failed:
            raise Unusable(
                f"{self.file} cannot be written: {failed.strerror}. What is in it stays."
            ) from None

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
