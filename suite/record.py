"""Record: the lines of a results file, and nothing that can be derived from them.

The first line is a Run; every other is a Result or a Score (and a Ceilings line where a process measured the
device again). `null` is "not measured". Times are in seconds, energy in joules, sizes in bytes. A file may be
a stranger's: its types (suite/harmless.py) admit what no page can be harmed by, and nothing else.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import msgspec

from suite import harmless
from suite.harmless import (
    Calls,
    Count,
    Data,
    Id,
    Moment,
    Number,
    Phrase,
    Rate,
    Sentence,
    Share,
    Size,
    Small,
    Version,
    Word,
)
from suite.registry import Unusable

SCHEMA = 1

Outcome = Literal["ok", "refused", "wrong", "broken", "timeout", "memory"]

# What kernels, compilers and drivers may have written into a Result.
SENTENCES = ("note", "algorithm", "executed_pattern", "throttle", "energy_source", "energy_note")


class Line(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """One line of a results file."""


class Run(Line, tag="run"):
    """The first line: what was measured where, with what. No host, user, path or serial number."""

    schema: int
    version: Version
    started: Moment
    commit: Version | None = None
    workloads: dict[Word, Count] = {}  # name -> version of its case set
    planned: Count | None = None  # pairs of kernel and case that a complete run has
    elsewhere: dict[Word, Count] = {}  # kind of device -> how many kernels there are for it, not run here
    devices: dict[Word, dict[str, Any]] = {}  # key -> kind, name and what its fingerprint holds
    libraries: dict[Word, Version] = {}
    plugins: list[dict[str, Any]] = []
    options: dict[str, Any] = {}


class Ceilings(Line, tag="ceilings"):
    """What the device was seen to reach: the best of this process's windows. Readers take the best of all.

    flops: dtype -> FLOP/s. bandwidth: level -> byte/s read ("L1", "L2", "L3", "memory").
    """

    device: Word
    flops: dict[Phrase, Rate]
    bandwidth: dict[Word, Rate]
    started: Moment


class Result(Line, tag="result"):
    """What came of one kernel on one case on one device in one visit."""

    device: Word
    workload: Word
    op: Word
    case: Id
    sizes: dict[Word, Size]
    pattern: Phrase
    dtype: Word
    seed: Count
    kernel: Word
    kernel_hash: Word
    outcome: Outcome
    visit: Small
    threads: Small
    started: Moment
    cache: Literal["cold", "hot", "rotating"] = "cold"
    executed_pattern: Sentence | None = None
    sparsity: Share | None = None  # counted on the operand
    structure: dict[Word, Number | None] = {}
    data: Data = ""
    scope: Literal["kernel", "layer", "step", "end_to_end"] = "kernel"
    phase: Phrase | None = None  # the regime: decode, small batch, prefill
    dense: bool = False  # a baseline kernel
    ids: list[Sentence] = []
    selector: Word | None = None  # what picked, in every call, what the kernel keeps
    control: Literal["luck", "habit", "knowledge"] | None = None  # a selector to hold others against
    algorithm: Sentence | None = None
    execution: Literal["sparse", "dense", "masked", "simulated"] = "sparse"
    note: Sentence = ""  # why, unless ok
    error: Number | None = None  # the fraction of the tolerance used
    seconds: list[float] = []
    calls: Calls = 0  # how many samples there were; `seconds` keeps at most 1,000 of them
    discarded: Count = 0  # samples that did not count: the device was slowed, or its clock had not risen
    timer: Word | None = None  # "host", "events", "graph"; "window" of energy
    stopped: Literal["precise", "cap"] | None = None
    foreign: Number | None = None  # share of the pinned cores' time that others took
    steal: Number | None = None
    clock_mhz: Number | None = None
    throttle: Sentence | None = None
    setup_seconds: Number | None = None
    compile_seconds: Number | None = None
    select_seconds: Number | None = None
    joules_counter: Number | None = None  # of one call
    joules_integral: Number | None = None
    idle_watts: Number | None = None
    energy_source: Sentence | None = None
    energy_note: Sentence | None = None
    flops_nominal: Count | None = None
    flops_useful: Count | None = None
    flops_executed: Count | None = None
    bytes_values: Count | None = None
    bytes_metadata: Count | None = None
    bytes_live: Count | None = None  # live operands touched and the answer
    peak_bytes: Count | None = None
    quality: dict[Phrase, Number] = {}

    def __post_init__(self) -> None:
        """Sentences are made fit to be read back."""
        for name in SENTENCES:
            text = getattr(self, name)
            if text and (len(text) > harmless.LONGEST_SENTENCE or harmless.UNSEEN.search(text)):
                setattr(self, name, harmless.sentence(text))

    @property
    def key(self) -> tuple:
        """What `--resume` goes by."""
        return self.case, self.entry, self.kernel_hash, self.cache, self.threads, self.visit, self.scope

    @property
    def work(self) -> int | None:
        """The FLOPs it issues at least: as stated, else a dense kernel's all, a sparse one's nonzeros'."""
        if self.flops_executed is not None:
            return self.flops_executed
        return self.flops_nominal if self.dense else self.flops_useful

    @property
    def entry(self) -> str:
        """What ran, as plans call it: a kernel, or one with its selector."""
        return f"{self.kernel}+{self.selector}" if self.selector else self.kernel


class Weight(TypedDict):
    """A layer of a model that was studied. data: the tensor of a file that it is, where it is one."""

    name: Sentence
    m: Size
    k: Size
    n: Count  # rows of inputs for one example
    pattern: Phrase
    sparsity: Share
    data: NotRequired[Data]


class Score(Line, tag="score"):
    """What came of one method on one task at one sparsity, pattern and seed.

    Scores of one curve share task, protocol, data and metric. Methods that train nothing, masks only, or
    weights rank apart.
    """

    device: Word
    task: Word
    protocol: Word
    data: Data
    method: Word
    pattern: Phrase  # as asked; of layers, each one's own
    sparsity: Share  # counted over the layers; of a model that is not pruned, against the dense one
    seed: Count
    metric: Phrase
    outcome: Outcome
    started: Moment
    criterion: Word | None = None
    allocator: Word | None = None
    refiner: Word | None = None
    trainer: Word | None = None
    transform: Word | None = None
    ids: list[Sentence] = []
    control: bool = False  # it knows nothing: what others must beat
    toy: bool = False  # the task speaks of nothing but itself
    imported: bool = False  # from a table: judged elsewhere, by somebody else's instrument
    start: Literal["dense", "fresh"] = "dense"  # the model it goes on from: trained, or not
    training: Literal["none", "mask", "weights"] = "none"
    better: Literal["higher", "lower"] = "higher"
    layers: list[Weight] = []
    value: Number | None = None  # of the metric
    dense_value: Number | None = None
    quality: dict[Phrase, Number] = {}  # what else is known: "kl", "worst class", "calibration error"
    train_flops: Number | None = None  # of the method's own training, zeros free; not that of the dense model
    train_tokens: Count | None = None  # or examples
    search_flops: Number | None = None  # of passes that chose what stays (calibration, search), zeros free
    infer_flops: Number | None = None  # of one example, zeros free
    tuning_runs: Count | None = None
    nonzeros: Count | None = None  # of the layers
    bytes: Count | None = None  # of the whole model; of pruned layers nonzeros and one bit for each place
    iso: Phrase | None = None  # what it holds equal to the dense model's
    seconds: Number | None = None
    joules_counter: Number | None = None
    execution: Literal["sparse", "dense", "masked", "simulated"] = "simulated"
    note: Sentence = ""

    def __post_init__(self) -> None:
        """A note may be a stranger's exception, and is made fit to be read back."""
        self.note = harmless.sentence(self.note)

    @property
    def key(self) -> tuple:
        """What a resumed study goes by."""
        return self.task, self.method, self.pattern, self.seed


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
    """A results file as read: its sound lines, the faults of the others, and if its end was torn.

    at: the number of each line in the file.
    """

    file: Path
    run: Run | None
    lines: list[Any_Line]
    faults: list[Fault]
    torn: bool
    at: list[int] = field(default_factory=list)

    @property
    def results(self) -> list[Result]:
        return [line for line in self.lines if isinstance(line, Result)]

    @property
    def scores(self) -> list[Score]:
        return [line for line in self.lines if isinstance(line, Score)]


def encode(line: Line) -> bytes:
    """One line of JSON, times to four digits."""
    return msgspec.json.encode(line) + b"\n"


def four_digits(seconds: float) -> float:
    """More digits than any timer has."""
    return float(f"{seconds:.4g}")


def lines(file: Path) -> Iterator[tuple[int, bytes, bool]]:
    """(number, text, whole) of each line, the beginning of one too long; only the last may lack its end."""
    with file.open("rb") as opened:
        number = 0
        while text := opened.readline(harmless.LONGEST_LINE + 1):
            number += 1
            rest = text
            while len(text) > harmless.LONGEST_LINE and rest and not rest.endswith(b"\n"):
                rest = opened.readline(harmless.LONGEST_LINE)
            if text.strip():
                yield number, text, rest.endswith(b"\n") or len(text) > harmless.LONGEST_LINE


def faults_of(line: Any_Line) -> list[str]:
    """What a line says that cannot be, beyond its types."""
    if isinstance(line, Run):
        return list(faults_of_run(line))
    if isinstance(line, Score):
        return list(faults_of_score(line))
    if not isinstance(line, Result):
        return []
    said = []
    if line.outcome == "ok" and not line.seconds and line.joules_counter is None:
        said.append("outcome is ok, but nothing was measured")
    if line.outcome != "ok" and line.seconds:
        said.append(f"outcome is {line.outcome}, yet it has times")
    if line.outcome != "ok" and not line.note:
        said.append(f"outcome is {line.outcome}, and the note does not say why")
    if any(not second > 0 for second in line.seconds):
        said.append("a time is not positive")
    elif any(not harmless.SHORTEST <= second <= harmless.LONGEST for second in line.seconds):
        said.append(f"a time is not between {harmless.SHORTEST:g} and {harmless.LONGEST:g} s")
    if line.joules_counter == 0 or line.joules_integral == 0:
        said.append("energy is 0; not measured is null")
    if (line.flops_executed or line.flops_useful or 0) < (line.flops_useful or 0):
        said.append("fewer FLOPs executed than are useful")
    return said


def faults_of_score(score: Score) -> Iterator[str]:
    """What cannot be of a line of a study."""
    if (score.outcome == "ok") != (score.value is not None):
        yield f"outcome is {score.outcome}, and the value is {score.value}"
    if score.outcome != "ok" and not score.note:
        yield f"outcome is {score.outcome}, and the note does not say why"


def faults_of_run(run: Run) -> Iterator[str]:
    """What of a header no reader can use; within bounds, devices, plug-ins and options may hold anything."""
    if run.schema != SCHEMA:
        yield f"schema {harmless.shown(str(run.schema), 20)} is not {SCHEMA}; this sparsemark cannot read it"
    for key, about in run.devices.items():
        yield from harmless.fits(about, harmless.Fingerprint, f"devices: {key}")
    for plugin in run.plugins:
        yield from harmless.fits(plugin, harmless.Plugin, "plugins")
    yield from harmless.fits(run.options.get("extent", "default"), Word, "options: extent")
    for name in ("devices", "plugins", "options"):
        yield from harmless.shallow(getattr(run, name), name)


def decode(text: bytes) -> Any_Line:
    """A line of a file. ValueError: it is none, and why."""
    if len(text) > harmless.LONGEST_LINE:
        raise ValueError(f"the line is longer than {harmless.LONGEST_LINE:,} bytes")
    try:
        return _decoder.decode(text)
    except RecursionError:
        raise ValueError("objects within each other without end") from None
    except ValueError as wrong:  # that of a wrong byte among them
        raise ValueError(harmless.told(wrong)) from None


def header(file: Path) -> Run | None:
    """The first line of a results file; None where it is no header that can be used."""
    first = next(lines(file), (1, b"", True))[1]
    try:
        line = decode(first)
    except ValueError:
        return None
    return line if isinstance(line, Run) and not faults_of(line) else None


def read(file: Path) -> Recorded:
    """Every line of a results file without a fault; what has one is named, never skipped in silence."""
    run, found, at, faults, torn = None, [], [], [], False
    headers = 0
    keys: dict[tuple, int] = {}
    for number, text, whole in lines(file):
        if not whole:
            torn = True  # a killed run leaves it; even if it parses, another line would be glued to it
            break
        try:
            line = decode(text)
        except ValueError as wrong:
            faults.append(Fault(str(file), number, str(wrong)))
            continue
        said = faults_of(line)
        if isinstance(line, Result | Score) and (first := keys.setdefault(line.key, number)) != number:
            said.append(f"the same measurement as line {first}")
        if isinstance(line, Run):
            headers += 1
            if headers > 1 or found:
                said.append("a run line that is not the first")
        faults += [Fault(str(file), number, says) for says in said]
        if said:
            continue
        if isinstance(line, Run):
            run = line
        found.append(line)
        at.append(number)
    if not headers:
        faults.append(Fault(str(file), 1, "the first line is not a run: the file has no header"))
    return Recorded(file, run, found, faults, torn, at)


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
