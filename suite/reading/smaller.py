"""Smaller: a model that sees part of a cache, against a smaller one that sees all of it, at equal FLOPs.

The model that answers questions about a text is put together by hand, and its size is the width of its heads:
the fewer numbers, the more names in the text are alike, and the more answers are wrong. Attention in full
takes FLOPs in proportion to the width. At a cost between two sizes a smaller model does no better than the
wider of them and no worse than the narrower. So a method is better where it beats the wider one, though that
costs more; worse where the narrower one, which costs less, beats it; in between it is not clear.

Right answers are counted, and two counts differ where Fisher's exact test says so (p < 0.05). Counting over
the whole text has one answer a head, and no test: less far off is better. Both kinds of question stand side
by side, for the worse of the two is what a method costs. After Nawrot et al., "The Sparse Frontier: Sparse
Attention Trade-offs in Transformer LLMs", 2025 (first version), who ask it of trained models.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
    """A method on the larger model, beside smaller ones in full. right, off: whether it is better, in words.

    below, above: the sizes between which its cost lies; None: there is none that costs so little, or so much.
    why: why it is not known, where it is not.
    """

    sparsity: str
    line: Line
    large: Model
    below: Model | None
    above: Model | None
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
    """Each method of a case of the largest model, beside the sizes between which its cost lies."""
    sparsity = one.about["pattern"].partition("@")[2]
    for line in one.lines:
        if not line.selector:
            continue
        mine = model(one, line, line.work or 0.0)
        below, above, why = around(full, line.work)
        right = told(
            below and clearly(mine.right, below.right, answers),
            above and clearly(mine.right, above.right, answers),
        )
        off = told(below and further(mine.off, below.off), above and further(mine.off, above.off))
        yield Beside(sparsity, line, mine, below, above, right, off, why)


def around(full: Sequence[Model], work: float | None) -> tuple[Model | None, Model | None, str]:
    """The sizes between which a cost lies, which are one where it is that size's; or why there are none."""
    if work is None:
        return None, None, "its kernel does not say what it executes"
    if work >= full[-1].work:
        return None, None, "it executes as much as attention in full"
    below = max((one for one in full if one.work <= work), key=lambda one: one.work, default=None)
    above = min((one for one in full if one.work >= work), key=lambda one: one.work)
    return below, above, "" if below else "no model so small was asked"


def told(below: str | None, above: str | None) -> str:
    """Whether it is better than a smaller model of its cost, by how it stands beside those around that."""
    if above == BETTER:
        return BETTER
    if below == WORSE:
        return WORSE
    return ALIKE if below and above else ""


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
