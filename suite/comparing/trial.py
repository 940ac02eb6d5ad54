"""Trial: how often comparisons of equal code cry wolf, and how often they see a change that is there.

    python -m suite.comparing.trial                     200 comparisons of runs that were drawn
    python -m suite.comparing.trial --real DIR          and of runs on this machine, kept in DIR

Beside the verdicts stand what else one may gate on: a threshold on the mean of all samples, and a rank test
on them.
"""

import argparse
import csv
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import expm1
from pathlib import Path
from statistics import fmean, median

import numpy as np
from msgspec import structs
from scipy.special import betaincinv
from scipy.stats import mannwhitneyu

from suite import devices
from suite.commands import load
from suite.comparing.comparison import Comparison, compare
from suite.comparing.discoveries import bars
from suite.comparing.power import OFTEN, power
from suite.comparing.side import Side
from suite.comparing.verdicts import FASTER, SLOWER, Change, Rule
from suite.plan import plan
from suite.record import SCHEMA, Recorded, Result, Run, read
from suite.run import Options, Running

PLANTED = Path(__file__).with_name("planted.py")  # a plug-in with these two
PLAIN, SLOWED, BY = "spmm_plain", "spmm_plain_slowed", 0.3
DENSE = ("spmm_dense_mm", "spmm_dense_linear")
CASES = tuple(
    f"spmm/m={m},k={k},n={n}/unstructured@{sparsity}/float32/seed=0"
    for m, k, n, sparsity in (
        (512, 512, 16, 0.9),
        (512, 512, 64, 0.9),
        (1024, 1024, 1, 0.9),
        (1024, 512, 32, 0.95),
        (1024, 1024, 64, 0.99),
    )
)
SAMPLES = 60  # of a kernel in one drawn run
WITHIN = 0.005  # scatter of the samples of one process
CHANGES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)  # whose power is tried

Lines = list[Result]


@dataclass(frozen=True)
class Pair:
    """Lines of the two sides, and by how much the head's PLAIN is really slower."""

    base: Lines
    head: Lines
    slower: float = 0.0

    @property
    def compared(self) -> Comparison:
        base, head = (
            Side(name, [recorded(lines)]) for name, lines in (("base", self.base), ("head", self.head))
        )
        return compare(base, head)


Gate = Callable[[Pair], dict[tuple[str, str], bool]]  # (case, kernel) -> whether it is said to have changed


def verdicts(pair: Pair) -> dict[tuple[str, str], bool]:
    """What sparsemark says."""
    return {
        (one.point.case, one.point.kernel): one.verdict in (SLOWER, FASTER) for one in pair.compared.changes
    }


def threshold(most: float) -> Gate:
    """Another mean of all samples than before, by more than this share."""
    return lambda pair: {
        at: abs(fmean(head) / fmean(base) - 1) > most for at, (base, head) in pooled(pair).items()
    }


def ranks(pair: Pair) -> dict[tuple[str, str], bool]:
    """Mann and Whitney's test on all samples together, at p < 0.002."""
    return {at: mannwhitneyu(*sides).pvalue < 0.002 for at, sides in pooled(pair).items()}


GATES: dict[str, Gate] = {
    "sparsemark": verdicts,
    "mean of all samples, 5 %": threshold(0.05),
    "mean of all samples, 10 %": threshold(0.10),
    "rank test on all samples, p < 0.002": ranks,
}


def pooled(pair: Pair) -> dict[tuple[str, str], tuple[list[float], list[float]]]:
    """All samples of each side, whatever process they are from."""
    found: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
    for side, lines in enumerate((pair.base, pair.head)):
        for line in lines:
            found.setdefault((line.case, line.kernel), ([], []))[side].extend(line.seconds)
    return found


def recorded(lines: Sequence[Result]) -> Recorded:
    run = Run(schema=SCHEMA, version="trial", started="", devices={lines[0].device: {}})
    return Recorded(Path("trial"), run, [run, *lines], [], torn=False)


# Drawn


def drawn(number: int, runs: int, spread: float, shared: float, slower: float) -> Pair:
    """A comparison that never was: `spread` between processes, a share of it common to all their kernels."""
    rng = np.random.default_rng(number)
    sides: list[Lines] = []
    for side in range(2):
        lines: Lines = []
        for visit in range(1, runs + 1):
            common = shared * rng.standard_normal()
            for case in CASES:
                for kernel in ("spmm_dense_a", "spmm_dense_b", PLAIN):
                    log = spread * (common + (1 - shared**2) ** 0.5 * rng.standard_normal())
                    if side and kernel == PLAIN:
                        log += np.log1p(slower)
                    seconds = 1e-3 * np.exp(log + WITHIN * rng.standard_normal(SAMPLES))
                    lines.append(line(case, kernel, visit, [float(one) for one in seconds]))
        sides.append(lines)
    return Pair(sides[0], sides[1], slower)


def line(case: str, kernel: str, visit: int, seconds: list[float]) -> Result:
    about = {"device": "none", "workload": "trial", "op": "spmm", "case": case, "sizes": {}, "pattern": ""}
    about |= {"dtype": "float32", "seed": 0, "kernel": kernel, "kernel_hash": "0", "outcome": "ok"}
    return Result(**about, visit=visit, threads=1, started="", dense="dense" in kernel, seconds=seconds)


# Measured


def measure(file: Path, runs: int) -> None:
    """A run of twice as many visits as a side takes, each a fresh process."""
    device = devices.find_one(devices.CPU, 1)
    items = [replace(item, kernels=(PLAIN, SLOWED, *DENSE)) for item in plan([], "smoke", cases=CASES)]
    plugins = (str(PLANTED.resolve()),)
    Running(items, device, Options("smoke", visits=2 * runs, energy="off", plugins=plugins), file).go()


def pairs(file: Path) -> tuple[Pair, Pair]:
    """Equal code, and a head that is slowed: visits two by two, in an order drawn for each two."""
    results = read(file).results
    order, sides = random.Random(file.stem), ([], [])
    for visit in range(1, max(one.visit for one in results), 2):
        for side, at in zip(sides, order.sample((visit, visit + 1), 2), strict=True):
            side.extend(one for one in results if one.visit == at)
    base, equal = ([one for one in side if one.kernel != SLOWED] for side in sides)
    slowed = [structs.replace(one, kernel=PLAIN, kernel_hash="") for one in sides[1] if one.kernel == SLOWED]
    rest = [one for one in equal if one.kernel != PLAIN]
    return Pair(base, equal), Pair(base, rest + slowed, BY)


# Told


Count = tuple[int, int]  # of a comparison: how often something was said, and of how many times


def cried(gate: Gate, some: Iterable[Pair]) -> list[Count]:
    """How often equal code is said to have changed."""
    return [told(gate, pair, lambda kernel, pair=pair: kernel != PLAIN or not pair.slower) for pair in some]


def caught(gate: Gate, some: Iterable[Pair]) -> list[Count]:
    """How often the slowed kernel is said to have changed."""
    return [told(gate, pair, lambda kernel, pair=pair: kernel == PLAIN and pair.slower > 0) for pair in some]


def told(gate: Gate, pair: Pair, which: Callable[[str], bool]) -> Count:
    said = [changed for (_, kernel), changed in gate(pair).items() if which(kernel)]
    return sum(said), len(said)


def share(found: Sequence[Count]) -> str:
    """A share with its 95 % interval."""
    middle, low, high = (f"{100 * one:.1f}" for one in rate(found))
    return f"{middle} % ({low}-{high})"


def rate(found: Sequence[Count]) -> tuple[float, float, float]:
    """A share and the ends of its 95 % interval.

    Cases of one comparison come from the same processes, so they are worth fewer than they are: as many as
    would scatter like the comparisons do (Korn and Graubard, Survey Methodology 1998), by the interval of
    Clopper and Pearson. Where all cases agree there is no scatter to tell, and each counts.
    """
    some, of = (sum(column) for column in zip(*found, strict=True))
    middle, comparisons, worth = some / of, len(found), float(of)
    if 0 < some < of and comparisons > 1:
        apart = sum((one - middle * cases) ** 2 for one, cases in found) * comparisons / (comparisons - 1)
        worth = min(worth, middle * (1 - middle) * of**2 / apart) if apart else worth
    hits = middle * worth
    low = float(betaincinv(hits, worth - hits + 1, 0.025)) if some else 0.0
    high = float(betaincinv(hits + 1, worth - hits, 0.975)) if some < of else 1.0
    return middle, low, high


def drawn_rows(count: int, runs: int) -> Iterator[tuple[str, ...]]:
    """gate, and for each spread: false alarms, and how often 5 % is caught."""
    settings = [(0.005, 0.0), (0.02, 0.0), (0.05, 0.8)]
    equal, slow = (
        [[drawn(at, runs, *how, slower) for at in range(count)] for how in settings] for slower in (0.0, 0.05)
    )
    heads = [f"±{100 * spread:g} %{', mostly shared' if shared else ''}" for spread, shared in settings]
    yield ("gate", *(f"{head}: {what}" for head in heads for what in ("false", "5 % caught")))
    for name, gate in GATES.items():
        cells = [
            (share(cried(gate, same)), share(caught(gate, other)))
            for same, other in zip(equal, slow, strict=True)
        ]
        yield (name, *(cell for two in cells for cell in two))


def drawn_equal(count: int, runs: int) -> dict[str, list[Pair]]:
    """Comparisons of equal code at some spreads, for their power."""
    return {
        f"±{100 * spread:g} %: ": [drawn(at, runs, spread, 0.0, 0.0) for at in range(count)]
        for spread in (0.01, 0.05, 0.2)
    }


def real_rows(files: Sequence[Path]) -> Iterator[tuple[str, ...]]:
    """gate, false alarms, and how often code that takes 30 % longer is caught."""
    both = [pairs(file) for file in files]
    yield "gate", "equal code: false", "30 % slower code: caught"
    for name, gate in GATES.items():
        yield (
            name,
            share(cried(gate, (equal for equal, _ in both))),
            share(caught(gate, (slow for _, slow in both))),
        )


def power_rows(equal: Mapping[str, Iterable[Pair]]) -> Iterator[tuple[str, ...]]:
    """A change, how often it should be seen by what comparisons of equal code print, and how often it is.

    In the last row that is another change for each case: the one that its comparison says it would see.
    """
    sides = [[list(sights(pair)) for pair in some] for some in equal.values()]
    yield "times of the head", *(f"{name}{what}" for name in equal for what in ("power printed", "seen"))
    for slower in CHANGES:
        printed = [fmean(one.power(slower) for pair in side for one in pair) for side in sides]
        yield f"x {1 + slower:g}", *beside(printed, [met(side, slower) for side in sides])
    yield "what could have been seen", *beside([OFTEN] * len(sides), [met(side) for side in sides])


def beside(printed: Sequence[float], found: Sequence[Sequence[Count]]) -> Iterator[str]:
    for one, other in zip(printed, found, strict=True):
        yield f"{100 * one:.1f} %"
        yield share(other)


@dataclass(frozen=True)
class Sight:
    """A case of equal code, and what its comparison says it could have seen."""

    pair: Pair
    change: Change
    level: float  # the p-value up to which it would have been reported

    def power(self, slower: float) -> float:
        """How often it says it would see this."""
        assert self.change.found
        return power(slower, self.change.found, self.level, Rule().effect)

    def sees(self, slower: float) -> bool:
        """Whether it does, where the head takes that much longer on this case alone."""
        at = self.change.point.case, PLAIN
        head = [
            structs.replace(one, seconds=[(1 + slower) * each for each in one.seconds])
            if (one.case, one.kernel) == at
            else one
            for one in self.pair.head
        ]
        return verdicts(Pair(self.pair.base, head))[at]


def sights(pair: Pair) -> Iterator[Sight]:
    """Of PLAIN on every case."""
    tested = [(one, one.found.p) for one in pair.compared.changes if one.found]
    levels = bars([p for _, p in tested], Rule().level)
    for (one, _), level in zip(tested, levels, strict=True):
        if one.point.kernel == PLAIN:
            yield Sight(pair, one, level)


def met(some: Iterable[Sequence[Sight]], slower: float | None = None) -> list[Count]:
    """How often a change is seen in each comparison; by default the one that each case says it would see."""
    return [
        (sum(one.sees((one.change.seen or 0.0) if slower is None else slower) for one in pair), len(pair))
        for pair in some
    ]


def scatters(files: Sequence[Path]) -> str:
    """How much the processes differ among themselves, in the middle and in nine cases of ten."""
    found = []
    for pair in (pairs(file)[0] for file in files):
        for (_, kernel), logs in by_visit(pair).items():
            if kernel == PLAIN:
                found.append(expm1(np.std(logs, ddof=1)))
    return (
        f"{100 * median(found):.1f} %, and up to {100 * np.quantile(found, 0.9):.0f} % in nine cases of ten"
    )


def by_visit(pair: Pair) -> dict[tuple[str, str], list[float]]:
    made: dict[tuple[str, str], list[float]] = {}
    for one in pair.base:
        made.setdefault((one.case, one.kernel), []).append(float(np.log(median(one.seconds))))
    return made


def print_table(rows: Iterable[Sequence[str]]) -> list[Sequence[str]]:
    """Print a table, the first row of which is its head; and that table."""
    shown = list(rows)
    for at, row in enumerate(shown):
        print(f"| {' | '.join(row)} |")
        if not at:
            print(f"| {' | '.join(['---'] * len(row))} |")
    print()
    return shown


def keep(file: Path, *tables: Sequence[Sequence[str]]) -> None:
    """Tables of the same gates side by side, for the page that says how numbers are made."""
    with file.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened, lineterminator="\n").writerows(
            [first[0], *(cell for row in (first, *others) for cell in row[1:])]
            for first, *others in zip(*tables, strict=True)
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m suite.comparing.trial", description=__doc__)
    parser.add_argument("--drawn", type=int, default=200, metavar="N", help="comparisons to draw")
    parser.add_argument("--real", type=Path, metavar="DIR", help="where measured comparisons are kept")
    parser.add_argument("--measure", type=int, default=20, metavar="N", help="until there are so many in DIR")
    parser.add_argument("--runs", type=int, default=10, metavar="R", help="a side")
    parser.add_argument("--keep", type=Path, metavar="FILE.csv", help="where rates of all gates are kept")
    given = parser.parse_args()
    kept = []
    load([str(PLANTED)])
    if given.drawn:
        print(f"{given.drawn} drawn comparisons, {len(CASES)} cases, {given.runs} runs a side\n")
        kept.append(print_table(drawn_rows(given.drawn, given.runs)))
        print_table(power_rows(drawn_equal(max(1, given.drawn // 4), given.runs)))
    if given.real:
        for number in range(1, given.measure + 1):
            file = given.real / f"{number:02}.jsonl"
            if not file.exists():
                part = file.with_suffix(".part")
                part.unlink(missing_ok=True)  # of a trial that was interrupted
                measure(part, given.runs)
                part.rename(file)
        files = sorted(given.real.glob("*.jsonl"))
        print(
            f"{len(files)} measured comparisons, {len(CASES)} cases; processes differ by {scatters(files)}\n"
        )
        kept.append(print_table(real_rows(files)))
        print_table(power_rows({"": [pairs(file)[0] for file in files]}))
    if given.keep:
        keep(given.keep, *kept)


if __name__ == "__main__":
    main()
