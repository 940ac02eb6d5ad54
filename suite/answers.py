"""Answers: the first screen. Per pattern family and regime: does sparsity pay here, from where on, for sure?

A cell holds every size measured. Sizes differ, so it never averages them: it gives the range, and how many.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
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

from suite import units
from suite.case import REGIMES
from suite.crossover import Crossover
from suite.curves import Group, Verdict, groups
from suite.frame import Rows
from suite.units import count, percent, times

CELL = ["device", "dtype", "cache", "family", "regime"]

QUESTIONS = {
    "faster": "faster",
    "since": "from which sparsity on",
    "break_even": "conversion pays after",
    "joules": "energy saved",
    "accuracy": "accuracy cost",
    "trust": "trust",
}

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


@dataclass(frozen=True)
class Answer:
    """The six answers of one cell, in words."""

    device: str
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


def answers(frame: pd.DataFrame) -> list[Answer]:
    """The cells of the first screen, regimes from decode to prefill."""
    cells: dict[tuple, list[Group]] = defaultdict(list)
    for one in groups(frame):
        cells[tuple(getattr(one, name) for name in CELL)].append(one)
    made = [answer(dict(zip(CELL, key, strict=True)), found) for key, found in cells.items()]
    return sorted(
        made,
        key=lambda one: (
            *(one.device, one.cache, one.dtype != "float32", one.dtype, one.family),
            place(one.regime),
        ),
    )


def place(regime: str) -> int:
    """Regimes from few tokens to many; those of work without tokens last."""
    return ORDER.index(regime) if regime in ORDER else len(ORDER)


def answer(cell: dict[str, Any], found: Sequence[Group]) -> Answer:
    """The six answers for the groups of a cell."""
    rows = pd.concat([one.rows for one in found])
    verdicts = {one.verdict for one in found if one.points}
    return Answer(
        **cell,
        sizes=len(found),
        verdict=True if True in verdicts else False if False in verdicts and None not in verdicts else None,
        faster=faster(found),
        since=since(found),
        break_even=break_even(rows),
        joules=joules(rows),
        accuracy=NO_SCORES,
        trust=trust(rows),
    )


def faster(found: Sequence[Group]) -> str:
    """(1) The speed-up at the sparsity that has most of it."""
    able = [one for one in found if one.points]
    if not able:
        return f"not known: {'; '.join(dict.fromkeys(one.crossover.doubt for one in found))}"
    says = {True: "yes,", False: "no, at most", None: "not clear, at best"}
    bests = [one.best for one in able if one.best]
    if len(found) == 1:
        (best,) = bests
        band = (
            "one visit: no interval"
            if best.low is None
            else f"{times(best.low)[:-1]}-{times(best.high or 0)[:-1]}"
        )
        return f"{says[able[0].verdict]} {times(best.speed_up)} ({band}) at {percent(best.sparsity)} %"
    counts = Counter(one.verdict for one in able)
    said = [
        f"{word} in {of(counts[verdict], found)}"
        for verdict, word in ((True, "yes"), (None, "not clear"), (False, "no"))
        if counts[verdict]
    ]
    said += [f"not known in {of(len(found) - len(able), found)}"] if len(able) < len(found) else []
    return f"{', '.join(said)}: at best {span([best.speed_up for best in bests], times)}"


def since(found: Sequence[Group]) -> str:
    """(2) The crossovers: one in its own words, several as a range and their count."""
    if len(found) == 1:
        return found[0].crossover.text
    kinds: dict[str, list[Crossover]] = defaultdict(list)
    for one in found:
        kinds[one.crossover.kind].append(one.crossover)
    most_first = sorted(kinds.items(), key=lambda item: -len(item[1]))
    return "; ".join(f"{together(kind, several)} ({of(len(several), found)})" for kind, several in most_first)


def together(kind: str, several: Sequence[Crossover]) -> str:
    """Crossovers of one kind."""
    if same(one.text for one in several):
        return several[0].text
    if kind == "from":
        return f"from {span([one.at or 0 for one in several], lambda at: percent(at, 0))} %"
    if kind == "between":
        low, high = min(one.low or 0 for one in several), max(one.high or 0 for one in several)
        return f"between {percent(low)} and {percent(high)} %"
    if kind == "none":
        return f"none up to {span([one.low or 0 for one in several], percent)} %"
    return "; ".join(dict.fromkeys(one.text for one in several))


def break_even(rows: Rows) -> str:
    """(3) Calls until conversion has paid, where the best sparse kernel is faster at all."""
    winners = rows[~rows["dense"] & rows["best"]]
    quick = winners[winners["speed_up"] > 1]
    if winners.empty or winners["speed_up"].isna().all():
        return "not known"
    if quick.empty:
        return "never: no call is faster"
    known = [calls for calls in quick["break_even"].dropna() if calls < inf]
    if not known:
        notes = quick["break_even_note"]
        return f"not measured: {notes.iloc[0]}" if notes.iloc[0] else "never: no call is faster"
    text = calls_of(median(known))
    if len(known) == 1:
        return text
    ends = count(min(known)), count(max(known))
    return f"{text} (median of {len(known)} cases{'' if same(ends) else ', {}-{}'.format(*ends)})"


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


def trust(rows: Rows) -> str:
    """(6) How many of the lines something disturbed, and what."""
    timed = rows[rows["visits"] > 0]
    if timed.empty:
        return "nothing was timed"
    said = []
    if (timed["visits"] == 1).all():
        said.append("one visit only: no intervals")
    elif once := int((timed["visits"] == 1).sum()):
        said.append(f"{once} of {len(timed)} lines have one visit only")
    disturbed = int((timed["disturbed"] != "").sum())
    by = ", ".join(cause for cause, _ in causes(timed).most_common())
    said.append(
        f"{disturbed} of {len(timed)} lines disturbed: {by}"
        if disturbed
        else f"{len(timed)} lines, none disturbed"
    )
    if above := int(timed["above_bound"].sum()):
        said.append(f"{above} above the roofline")
    if lone := int(timed["one_sample"].sum()):
        said.append(f"{lone} with one sample only")
    return "; ".join(said)


def causes(rows: Rows) -> Counter[str]:
    """What disturbed rows, sizes aside, and how many of them."""
    said = (part for text in rows["disturbed"] for part in {*text.split("; ")} if part)
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


COLUMNS = ("faster", "from which sparsity on", "conversion pays after", "trust")


def table(given: Sequence[Answer]) -> Renderables:
    """The first screen for a terminal: a table per device, dtype and cache state, a row for each cell.

    What no cell could measure, for one reason, is said once below.
    """
    kinds: dict[tuple[str, str, str], list[Answer]] = defaultdict(list)
    for one in given:
        kinds[one.device, one.dtype, one.cache].append(one)
    made: list[RenderableType] = [Text("\nWhen does sparsity pay here?", style="bold")]
    for kind, cells in kinds.items():
        shown = Table(
            title=", ".join(kind), title_justify="left", title_style="", box=box.SIMPLE_HEAD, padding=(0, 1)
        )
        for name in ("pattern", "regime"):
            shown.add_column(name, no_wrap=True)
        for name in COLUMNS:
            shown.add_column(name, min_width=10)
        for one in cells:
            sign, colour = SIGNS[one.verdict]
            trust, _, _ = one.trust.partition(":")  # the page says what disturbed them
            verdict = Text(f"{sign} {one.faster}", style=colour)
            shown.add_row(one.family, one.regime, verdict, one.since, one.break_even, trust)
        made.append(shown)
    for name in ("joules", "accuracy"):
        said = {getattr(one, name) for one in given}
        for text in sorted(said):
            whose = [f"{one.family} {one.regime}" for one in given if getattr(one, name) == text]
            whom = "" if len(said) == 1 else f" ({', '.join(dict.fromkeys(whose))})"
            made.append(Text(f"{QUESTIONS[name]}{whom}: {text}", style="dim"))
    return Renderables(made)
