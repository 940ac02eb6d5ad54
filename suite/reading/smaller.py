"""Smaller: a model that sees part of a cache, against a smaller one that sees all of it, at equal FLOPs.

The model that answers questions about a text is put together by hand, and its size is the width of its heads:
the fewer numbers, the more names in the text are alike, and the more answers are wrong. Attention in full
takes FLOPs in proportion to the width. What smaller models get right at a cost is a straight line between
their sizes, up to the model itself, in full; what costs less than the smallest gets no more right than that.

Right answers are counted, and two counts differ where Fisher's exact test says so (p < 0.05). Counting over
the whole text has one answer a head, and no test: less far off is better. Both kinds of question stand side
by side, for the worse of the two is what a method costs. After Nawrot et al., "The Sparse Frontier: Sparse
Attention Trade-offs in Transformer LLMs", 2025 (first version), who ask it of trained models.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from scipy.stats import fisher_exact

from suite.reading.turns import MISCOUNT, Asked, Line

WIDTH = "d"  # the size of a case that is the model's own
LEVEL = 0.05
BETTER, WORSE, ALIKE = "yes", "no", "not clear"


@dataclass(frozen=True)
class Model:
    """A model at a cost. right: the share of right answers; off: how far counts are off. None: not asked."""

    work: float
    right: float | None
    off: float | None


@dataclass(frozen=True)
class Beside:
    """A method on the larger model, beside a smaller one in full. right, off: whether it is better, in words.

    why: why there is no smaller one of this cost; then small is the smallest, if that costs more.
    """

    sparsity: str
    line: Line
    large: Model
    small: Model | None
    right: str
    off: str
    why: str


@dataclass(frozen=True)
class Sizes:
    """Models that differ in size alone: of each width how it does in full, and the largest's methods."""

    asked: Asked
    answers: int  # of each model to questions that are right or wrong
    full: Mapping[int, Model]
    beside: Sequence[Beside]

    def winners(self, kind: str) -> list[str]:
        """Methods that are better at some budget, at questions of a kind: "right" or "off"."""
        found = [one.line.selector for one in self.beside if getattr(one, kind) == BETTER]
        return list(dict.fromkeys(found))


def sizes(cases: Sequence[Asked]) -> Iterator[Sizes]:
    """Of cases that differ in width and budget alone, where there are several widths."""
    families: dict[tuple, list[Asked]] = {}
    for one in cases:
        families.setdefault(family(one), []).append(one)
    for some in families.values():
        largest = max(one.extent[WIDTH] for one in some)
        full = {
            one.extent[WIDTH]: model(one, line, one.extent[WIDTH] / largest)
            for one in sorted(some, key=lambda one: one.extent[WIDTH])
            for line in one.lines
            if not line.selector
        }
        large = [one for one in some if one.extent[WIDTH] == largest]
        if len(full) > 1 and largest in full:
            answers = one_by_one(large[0]) * large[0].extent["h"]
            beside = [each for one in large for each in methods(one, list(full.values()), answers)]
            yield Sizes(large[0], answers, full, beside)


def family(one: Asked) -> tuple:
    """What models of several sizes share."""
    about = {name: value for name, value in one.about.items() if name not in ("sizes", "case", "pattern")}
    return (*about.values(), *(item for item in one.extent.items() if item[0] != WIDTH))


def one_by_one(one: Asked) -> int:
    """Questions with an answer that is right or wrong."""
    return sum(not name.endswith(MISCOUNT) for name in one.questions)


def model(one: Asked, line: Line, work: float) -> Model:
    """How answers of a line are, over all questions of a kind."""
    right = [line.worth[name] for name in one.questions if name in line.worth and not name.endswith(MISCOUNT)]
    off = [line.worth[name] for name in one.questions if name in line.worth and name.endswith(MISCOUNT)]
    return Model(work, fmean(right) if right else None, fmean(off) if off else None)


def methods(one: Asked, full: Sequence[Model], answers: int) -> Iterator[Beside]:
    """Each method of a case of the largest model, beside what smaller ones do for as many FLOPs."""
    sparsity = one.about["pattern"].partition("@")[2]
    for line in one.lines:
        if not line.selector:
            continue
        mine = model(one, line, line.work or 0.0)
        small, why = of_cost(full, line.work)
        says = ("", "")
        if small:
            says = clearly(mine.right, small.right, answers), further(mine.off, small.off)
        right, off = (one if one == BETTER or not why else "" for one in says)
        yield Beside(sparsity, line, mine, small, right, off, why)


def of_cost(full: Sequence[Model], work: float | None) -> tuple[Model | None, str]:
    """The model in full of this cost, between two sizes on a straight line; or why there is none."""
    if work is None:
        return None, "its kernel does not say what it executes"
    if work < full[0].work:
        return full[0], "no model so small was asked"
    if work >= full[-1].work:
        return None, "it executes as much as attention in full"
    low, high = next(two for two in pairwise(full) if work <= two[1].work)
    share = (work - low.work) / (high.work - low.work)
    return Model(work, between(low.right, high.right, share), between(low.off, high.off, share)), ""


def between(low: float | None, high: float | None, share: float) -> float | None:
    return None if low is None or high is None else low + share * (high - low)


def clearly(mine: float | None, other: float | None, answers: int) -> str:
    """Whether more answers are right than chance explains."""
    if mine is None or other is None:
        return ""
    table = [[count, answers - count] for count in (round(mine * answers), round(other * answers))]
    if float(fisher_exact(table).pvalue) >= LEVEL:  # pyright: ignore
        return ALIKE
    return BETTER if mine > other else WORSE


def further(mine: float | None, other: float | None) -> str:
    """Whether counts are less far off."""
    if mine is None or other is None:
        return ""
    return ALIKE if mine == other else BETTER if mine < other else WORSE
