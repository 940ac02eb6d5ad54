"""Bits: one layer in several forms of few bits, and how long a call of so many tokens takes in each.

A form is how many bits a weight that is kept has, and which are kept: 4 bits and half of the groups; 16 bits
and 2:4; 2 bits and all. Its kernel is the fastest that stores that, and the bits a weight that it takes, of
all weights, are counted from its bytes: with scales, and with what says where groups stand.

Forms of one case race in the same rounds. Others are paired by the number of the round, minutes apart, for
codes of 4 and of 2 bits have no product in common.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from suite.case import DTYPES, QUANTIZED
from suite.quantized import GROUP
from suite.reading.about import sizes_of
from suite.reading.frame import fastest
from suite.reading.row import Row
from suite.reading.statistics import paired
from suite.reading.turning import Measured, Turning, turning
from suite.reading.units import percent
from suite.record import Result

OP = "spmm"
GROUPS = f"block1x{GROUP}"  # the pattern of groups that are kept or left out whole


@dataclass(frozen=True)
class Form:
    """bits: of a weight that is kept; sparsity, pattern: which are, 0 and empty for all of them."""

    bits: int
    sparsity: float
    pattern: str

    def __str__(self) -> str:
        return f"{self.bits} bits, {self.which}"

    @property
    def which(self) -> str:
        """Of the weights are kept; an N:M says by its name how many."""
        if self.pattern == GROUPS:
            return f"{percent(1 - self.sparsity)} % of groups kept"
        if not self.pattern or ":" in self.pattern:
            return self.pattern or "all"
        return f"{self.pattern}, {percent(self.sparsity)} % left out"

    @property
    def quantized(self) -> bool:
        return self.bits in QUANTIZED.values()


@dataclass(frozen=True)
class Rivalry:
    """Against this rival: times as fast, by tokens, and up to how many it is faster."""

    rival: Form
    at: dict[int, Measured]

    @cached_property
    def pays(self) -> Turning:
        return turning(list(self.at.values()), "token")


@dataclass(frozen=True)
class Layer:
    """A layer on a device. rows: of each form, by tokens, those that were timed."""

    about: dict[str, str]
    rows: dict[Form, dict[int, list[Row]]]

    @property
    def tokens(self) -> list[int]:
        return sorted({n for found in self.rows.values() for n in found})

    def best(self, form: Form, n: int) -> Row | None:
        """The fastest of a form."""
        return fastest(self.rows[form].get(n, []))

    def bits(self, form: Form) -> float | None:
        """Of a weight, kept or not, and all that describes it, of the fastest kernel at the fewest tokens."""
        row = self.best(form, min(self.rows[form]))
        return row and stored(row.first)

    def rivalries(self) -> dict[Form, list[Rivalry]]:
        """Every form that is both quantized and sparse, against those that are not."""
        both = [form for form in self.rows if form.quantized and form.pattern]
        others = [form for form in self.rows if form not in both]
        return {mine: [Rivalry(one, dict(self.against(mine, one))) for one in others] for mine in both}

    def against(self, form: Form, rival: Form) -> Iterator[tuple[int, Measured]]:
        for n in self.tokens:
            mine = self.best(form, n)
            others = self.rows[rival].get(n, [])
            same = [row for row in others if mine and row.first.case == mine.first.case]
            other = fastest(same or others)
            gain = paired(other.times, mine.times) if mine and other else None
            if gain:
                yield n, Measured(n, gain.middle, gain.low, gain.high)


def layers(rows: Sequence[Row]) -> list[Layer]:
    """Every layer that was timed in a form of few bits."""
    found: dict[tuple[str, ...], dict[Form, dict[int, list[Row]]]] = {}
    for row in rows:
        line = row.first
        if line.op == OP and row.timed and (form := form_of(line)):
            sizes = sizes_of({name: size for name, size in line.sizes.items() if name != "n"})
            about = line.device, line.workload, sizes, line.data, line.cache, str(line.threads)
            forms = found.setdefault(about, defaultdict(lambda: defaultdict(list)))
            forms[form][line.sizes["n"]].append(row)
    names = "device", "workload", "sizes", "data", "cache", "threads"
    return [
        Layer(dict(zip(names, about, strict=True)), {form: forms[form] for form in sorted(forms, key=order)})
        for about, forms in found.items()
        if any(form.quantized for form in forms)
    ]


def order(form: Form) -> tuple[int, float, str]:
    """The most bits first, and all of them."""
    return -form.bits, form.sparsity, form.pattern


def form_of(line: Result) -> Form | None:
    """What a kernel stores; None: it does not say, or masks weights that it multiplies all the same."""
    bits, told = stored(line, metadata=False), line.sparsity
    if not bits or told is None or line.execution not in ("sparse", "dense") or line.dtype not in DTYPES:
        return None
    unpacked = 8 * DTYPES[line.dtype].itemsize
    declared = QUANTIZED.get(line.dtype, unpacked)
    if line.dense:  # groups at the edge are stored whole, so that its bits need not be what they are called
        return Form(declared if bits < (declared + unpacked) / 2 else unpacked, 0.0, "")
    if not told:
        return None  # a sparse kernel on all of it
    return Form(declared, round(told, 4), line.pattern.partition("@")[0])


def stored(line: Result, metadata: bool = True) -> float | None:
    """Bits that a kernel stores for each weight of the layer, kept or not."""
    if line.bytes_values is None:
        return None
    size = line.bytes_values + ((line.bytes_metadata or 0) if metadata else 0)
    return 8 * size / (line.sizes["m"] * line.sizes["k"])
