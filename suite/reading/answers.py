"""Answers: the first screen. Per pattern family and regime: does sparsity pay here, from where on, for sure?

A cell holds every size measured. Sizes differ, so it never averages them: it gives the range, and how many.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from statistics import median
from typing import Any

import pandas as pd
from rich import box
from rich.console import RenderableType
from rich.containers import Renderables
from rich.table import Table
from rich.text import Text

from suite.case import REGIMES
from suite.op import OPS
from suite.reading import units
from suite.reading.crossover import SIDES, Point
from suite.reading.curves import Group, Verdict, groups
from suite.reading.frame import Rows
from suite.reading.units import count, ends, percent, times

CELL = ["device", "op", "dtype", "cache", "family", "regime"]

NO_SCORES = "not measured: no scores of the layers that were timed"

CAUSES = {  # -> the word that tells it in a row's `disturbed`
    "wide intervals": "interval",
    "other processes": "processes",
    "other guests of the machine": "guests",
    "a changing clock": "clock",
    "throttling": "throttled",
    "failed visits": "failed",
}

ORDER = [regime for _, regime in REGIMES]

FIRST = "spmm"  # the op whose answers come first, and need no heading


@dataclass(frozen=True)
class Brief:
    """Four of the answers in as few words as a terminal has room for. The page says the rest."""

    faster: str
    since: str
    break_even: str
    trust: str


@dataclass(frozen=True)
class Answer:
    """The six answers of one cell, in words."""

    device: str
    op: str
    dtype: str
    cache: str
    family: str
    regime: str
    sizes: int
    verdict: Verdict
    faster: str
    since: str
    break_even: str
    joules: str
    accuracy: str
    trust: str
    brief: Brief


ASKED = [  # of the frame
    *("dense", "best", "visits", "speed_up", "break_even", "break_even_note"),
    *("joules", "joules_saved", "energy_note", "disturbed", "above_bound", "one_sample"),
]


def answers(frame: pd.DataFrame) -> list[Answer]:
    """The cells of the first screen, regimes from decode to prefill."""
    return answered(groups(frame))


def answered(curves: Iterable[Group], bought: Mapping[tuple, str] | None = None) -> list[Answer]:
    """The same, of curves. bought: what scores say of a cell, by CELL.

    Curves along which nothing is left out ask nothing: they are there for others to be held against.
    """
    cells: dict[tuple, list[Group]] = defaultdict(list)
    for one in curves:
        if one.points and all(point.sparsity == 0 for point in one.points):
            continue
        cells[tuple(getattr(one, name) for name in CELL)].append(one)
    said = bought or {}
    made = [
        answer(dict(zip(CELL, key, strict=True)), found, said.get(key, NO_SCORES))
        for key, found in cells.items()
    ]
    return sorted(
        made,
        key=lambda one: (
            *(one.device, one.cache, one.op != FIRST, one.op, one.dtype != "float32", one.dtype, one.family),
            place(one.regime),
        ),
    )


def called(op: str) -> tuple[str, ...]:
    """What a reader calls an op; nothing for the first one."""
    if op == FIRST:
        return ()
    return ((OPS[op].about if op in OPS else "") or op,)


def place(regime: str) -> int:
    """Regimes from few tokens to many; those of work without tokens last."""
    return ORDER.index(regime) if regime in ORDER else len(ORDER)


def answer(cell: dict[str, Any], found: Sequence[Group], accuracy: str) -> Answer:
    """The six answers for the groups of a cell."""
    rows = pd.concat([one.rows[ASKED] for one in found])
    verdicts = {one.verdict for one in found if one.points}
    return Answer(
        **cell,
        sizes=len(found),
        verdict=True if True in verdicts else False if False in verdicts and None not in verdicts else None,
        faster=faster(found),
        since=since(found),
        break_even=break_even(rows),
        joules=joules(rows),
        accuracy=accuracy,
        trust=trust(rows),
        brief=Brief(
            faster_briefly(found), since_briefly(found), break_even(rows, brief=True), trust(rows, brief=True)
        ),
    )


def faster(found: Sequence[Group]) -> str:
    """(1) The speed-up at the sparsity that has most of it."""
    able = [one for one in found if one.points]
    if not able:
        return f"not known: {'; '.join(dict.fromkeys(one.crossover.doubt for one in found))}"
    says = {True: "yes,", False: "no, at most", None: "not clear, at best"}
    bests = [one.best for one in able if one.best]
    if len(found) == 1:
        return f"{says[able[0].verdict]} {told(bests[0])}"
    counts = Counter(one.verdict for one in able)
    said = [
        f"{word} in {of(counts[verdict], found)}"
        for verdict, word in ((True, "yes"), (None, "not clear"), (False, "no"))
        if counts[verdict]
    ]
    said += [f"not known in {of(len(found) - len(able), found)}"] if len(able) < len(found) else []
    return f"{', '.join(said)}: at best {span([best.speed_up for best in bests], times)}"


def told(best: Point) -> str:
    """A speed-up, its interval and its sparsity."""
    band = (
        "one visit: no interval"
        if best.low is None
        else f"{times(best.low)[:-1]}-{times(best.high or 0)[:-1]}"
    )
    return f"{times(best.speed_up)} ({band}) at {percent(best.sparsity)} %"


def faster_briefly(found: Sequence[Group]) -> str:
    """(1) beside a sign that says whether."""
    bests = [one.best for one in found if one.best]
    if not bests:
        return "not known"
    if len(found) == 1:
        return told(bests[0]).replace("one visit: no interval", "one visit")
    wins = sum(one.verdict is True for one in found)
    return f"in {wins} of {len(found)}: {span([best.speed_up for best in bests], times)}"


def since(found: Sequence[Group]) -> str:
    """(2) The crossovers: one in its own words, several as a range and their count."""
    if len(found) == 1:
        return found[0].crossover.text
    return "; ".join(f"{together(several)} ({of(len(several), found)})" for several in alike(found))


def since_briefly(found: Sequence[Group]) -> str:
    """(2) What most curves with several sparsities say; the speed-up of a lone one is said beside it."""
    most, *others = alike(found)
    return f"{together(most)} ({len(most)} of {len(found)})" if others else together(most)


def alike(found: Sequence[Group]) -> list[list[Group]]:
    """Curves by what they answer. The commonest first, those of one sparsity last: they have no crossover."""
    kinds: dict[tuple[str, int], list[Group]] = defaultdict(list)
    for one in found:
        kind = one.crossover.kind
        kinds[kind, one.points[0].side if kind == "single" else 0].append(one)
    return sorted(kinds.values(), key=lambda same: (same[0].crossover.kind == "single", -len(same)))


def together(several: Sequence[Group]) -> str:
    """Crossovers of one kind."""
    kind, crossovers = several[0].crossover.kind, [one.crossover for one in several]
    if kind == "single":
        (side, *_), at = (one.points[0].side for one in several), [one.points[0].sparsity for one in several]
        return f"{SIDES[side]} at {span(at, percent)} %"
    if kind == "always":
        met = [point.sparsity for one in several for point in one.points]
        clear = "" if not any(one.doubt for one in crossovers) else ", not clear everywhere"
        return f"always, {percent(min(met))} to {percent(max(met))} %{clear}"
    if same(one.text for one in crossovers):
        return crossovers[0].text
    if kind == "from":
        return f"from {span([one.at or 0 for one in crossovers], lambda at: percent(at, 0))} %"
    if kind == "between":
        low, high = min(one.low or 0 for one in crossovers), max(one.high or 0 for one in crossovers)
        return "between {} and {} %".format(*ends(low, high, (1, 2, 3)))
    if kind == "none":
        return f"none up to {span([one.low or 0 for one in crossovers], percent)} %"
    return "; ".join(dict.fromkeys(one.text for one in crossovers))


def break_even(rows: Rows, brief: bool = False) -> str:
    """(3) Calls until conversion has paid, where the best sparse kernel is faster at all."""
    never = "never" if brief else "never: no call is faster"
    winners = rows[~rows["dense"] & rows["best"]]
    quick = winners[winners["speed_up"] > 1]
    if winners.empty or winners["speed_up"].isna().all():
        return "not known"
    if quick.empty:
        return never
    known = [calls for calls in quick["break_even"].dropna() if calls < inf]
    if not known:
        notes = quick["break_even_note"]
        if notes.iloc[0]:
            return "not measured" if brief else f"not measured: {notes.iloc[0]}"
        return never
    text = calls_of(median(known))
    if len(known) == 1:
        return text
    least, most = count(min(known)), count(max(known))
    spread = "" if least == most else f"{least}-{most}"
    if brief:
        return f"{text} ({spread})" if spread else text
    return f"{text} (median of {len(known)} cases{spread and f', {spread}'})"


def joules(rows: Rows) -> str:
    """(4) What the best sparse kernel saves on the best dense one, per call."""
    winners = rows[~rows["dense"] & rows["best"]]
    measured = winners[winners["joules_saved"].notna()]
    if measured.empty:
        notes = Counter(note for note in rows["energy_note"] if note)
        return f"not measured: {notes.most_common(1)[0][0] if notes else 'no energy window'}"
    share = measured["joules_saved"] / (measured["joules"] + measured["joules_saved"])
    saved = span(list(measured["joules_saved"]), units.joules)
    cases = "" if len(measured) == 1 else f", {len(measured)} cases"
    return f"{span(list(share), lambda one: f'{100 * one:.0f} %')} ({saved} a call{cases})"


def trust(rows: Rows, brief: bool = False) -> str:
    """(6) How many of the lines something disturbed, and what."""
    timed = rows[rows["visits"] > 0]
    if timed.empty:
        return "nothing was timed"
    said = []
    if (timed["visits"] == 1).all():
        said.append("one visit only" if brief else "one visit only: no intervals")
    elif not brief and (once := int((timed["visits"] == 1).sum())):
        said.append(f"{once} of {len(timed)} lines have one visit only")
    disturbed = int((timed["disturbed"] != "").sum())
    by = ", ".join(cause for cause, _ in causes(timed).most_common())
    said.append(
        f"{disturbed or 'none'} of {len(timed)} disturbed"
        if brief
        else f"{disturbed} of {len(timed)} lines disturbed: {by}"
        if disturbed
        else f"{len(timed)} lines, none disturbed"
    )
    if above := int(timed["above_bound"].sum()):
        said.append(f"{above} above the roofline")
    if not brief and (lone := int(timed["one_sample"].sum())):
        said.append(f"{lone} with one sample only")
    return "; ".join(said)


def causes(rows: Rows) -> Counter[str]:
    """What disturbed rows, sizes aside, and how many of them."""
    said = (part for text in rows["disturbed"] for part in dict.fromkeys(text.split("; ")) if part)
    return Counter(next((cause for cause, word in CAUSES.items() if word in part), part) for part in said)


def same(texts: Iterable[str]) -> bool:
    return len(set(texts)) == 1


def of(some: int, found: Sequence[Group]) -> str:
    """How many of the curves: sizes, unless two differ in something else, such as the shape of a block."""
    noun = "sizes" if len({one.sizes for one in found}) == len(found) else "curves"
    if some == len(found):
        return f"{'both' if some == 2 else f'all {some}'} {noun}"
    return f"{some} of {len(found)} {noun}"


def span(values: Sequence[float], show: Callable[[float], str]) -> str:
    """A range, or the one text both ends share."""
    low, high = show(min(values)), show(max(values))
    return low if low == high else f"{low} to {high}"


def calls_of(calls: float) -> str:
    text = count(calls)
    return text if text == "never" else f"{text} call{'' if text == '1' else 's'}"


SIGNS: dict[Verdict, tuple[str, str]] = {True: ("✓", "green"), False: ("✗", "red"), None: ("?", "yellow")}


COLUMNS = {"faster": "faster", "since": "from sparsity", "break_even": "pays after", "trust": "trust"}

BELOW = {"joules": "Energy saved", "accuracy": "Accuracy cost"}  # what no table has a column for


def unmeasured(cells: Sequence[Answer]) -> dict[str, str]:
    """Questions that no cell answers, for one reason: it is said once, below them."""
    said = {name: {getattr(one, name) for one in cells} for name in BELOW}
    return {
        name: texts.pop()
        for name, texts in said.items()
        if len(texts) == 1 and min(texts).startswith("not measured")
    }


def table(given: Sequence[Answer]) -> Renderables:
    """The first screen for a terminal: a table per device, op, dtype and cache state, a row for each cell."""
    kinds: dict[tuple[str, ...], list[Answer]] = defaultdict(list)
    for one in given:
        kinds[one.device, *called(one.op), one.dtype, one.cache].append(one)
    made: list[RenderableType] = [Text("\nWhen does sparsity pay here?", style="bold")]
    for kind, cells in kinds.items():
        made += [Text(f"\n{', '.join(kind)}"), cells_of(cells)]
    once = unmeasured(given)
    for name, word in BELOW.items():
        if name in once:
            made.append(Text(f"{word}: {once[name]}", style="dim"))
            continue
        said: dict[str, list[str]] = defaultdict(list)
        for one in given:
            said[getattr(one, name)].append(f"{one.family} {one.regime}")
        made += [
            Text(f"{word} ({', '.join(dict.fromkeys(whose))}): {text}", style="dim")
            for text, whose in said.items()
        ]
    return Renderables(made)


def cells_of(cells: Sequence[Answer]) -> Table:
    """A table of cells, no column of which is narrower than its longest word."""
    rows = []
    for one in cells:
        sign, colour = SIGNS[one.verdict]
        said = [getattr(one.brief, name) for name in COLUMNS]
        rows.append(
            [Text(one.family), Text(one.regime), Text(f"{sign} {said[0]}", colour), *map(Text, said[1:])]
        )
    made = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for name, column in zip(("pattern", "regime", *COLUMNS.values()), zip(*rows, strict=True), strict=True):
        words = [word for text in (name, *(cell.plain for cell in column)) for word in text.split()]
        made.add_column(name, min_width=max(map(len, words)))
    for row in rows:
        made.add_row(*row)
    return made
