"""Shorter: a long context of which some is seen, against a shorter one that is seen whole, at equal cost.

The rival is the control of habit: the first block of the context and the nearest ones, which is what there
is of one that was cut short. It is attended to in full, and needs no choosing. How much of attention's weight
it holds at a cost, and how far its answer is from that over all of the context, is a straight line between
its budgets; what costs as much as all of the context is exact, and what costs less than the lowest budget
holds no more than that.

Costs are shares of attention in full: FLOPs that are executed, or time, of the whole call with its choosing.
Long and sparse is better where it holds more and errs less, at the upper end of its interval of time too.
Where only one of the two, or not there, it is not clear. After Nawrot et al., "The Sparse Frontier: Sparse
Attention Trade-offs in Transformer LLMs", 2025 (first version),
who ask it of models; here it is asked of one layer. Smaller models are rivals in suite/reading/smaller.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import nan
from typing import Any, NamedTuple

import pandas as pd

from suite.reading.frame import Rows
from suite.reading.selected import FASTER, SAME, SLOWER, UNCLEAR, asked
from suite.reading.units import percent

CONTEXT = [name for name in SAME if name != "case"]  # what rows of one length of one input share
RIVAL = "habit"


def over(part: float, whole: float) -> float:
    """A share; of nothing it is not known."""
    return part / whole if whole else nan


@dataclass(frozen=True)
class Cost:
    """share: of a row, choosing included; most: the upper end of its interval; alone: of a rival, without it.

    near: how far equal ones may be apart; unknown: why a row has none.
    """

    says: str
    share: Callable[[Any], float]
    most: Callable[[Any], float]
    alone: Callable[[Any], float]
    near: float
    unknown: str


COSTS = {
    "work": Cost(
        "FLOPs",
        lambda row: over(row.executed, row.whole),
        lambda row: over(row.executed, row.whole),
        lambda row: over(row.executed, row.whole),
        0.01,
        "its kernel does not say what it executes",
    ),
    "time": Cost(
        "time",
        lambda row: over(row.median, row.best_dense_median),
        lambda row: over(1.0, row.speed_up_low) if row.speed_up_low == row.speed_up_low else nan,
        lambda row: over(row.median - row.choosing, row.best_dense_median),
        0.0,
        "no dense kernel was timed beside it",
    ),
}


class Kept(NamedTuple):
    """A shorter context at a cost: what it holds of attention's weight, and how far off its answer is."""

    share: float
    recall: float
    error: float


WHOLE = Kept(1.0, 1.0, 0.0)


def shorter(rows: Rows) -> Rows:
    """Rows of suite.reading.selected, one of each selector and case, beside shorter contexts of their cost.

    tokens: that a query could look at in full for these FLOPs, the mean. And of each cost, by its name: the
    share it is; `_recall` and `_error` of the shorter one; `_better`: whether long and sparse is, in words,
    and nothing of the rival itself; `_why`: why that is not known, where it is not.
    """
    told = [one for _, same in rows.groupby(CONTEXT, sort=False) for one in beside(same)]
    return rows.join(pd.DataFrame(told).set_index("Index")) if told else rows


def to_the_end(rows: Rows) -> Rows:
    """The rows, and of the shorter context what it comes to in the end: all of it, for a figure."""
    end = rows[rows["control"] == RIVAL].head(1)
    whole = {"work": WHOLE.share, "recall": WHOLE.recall, "error": WHOLE.error}
    return pd.concat([rows, end.assign(sparsity=0.0, **whole)])


def beside(rows: Rows) -> list[dict[str, Any]]:
    """Of each row of one context what stands beside it."""
    lines = {name: curve(rows[rows["control"] == RIVAL], cost) for name, cost in COSTS.items()}
    found = []
    for row in rows.itertuples():
        told: dict[str, Any] = {"Index": row.Index, "tokens": over(row.executed, row.of_a_token)}
        for name, cost in COSTS.items():
            share = cost.share(row)
            unjudged = None, "what it keeps was not judged"
            rival, why = unjudged if pd.isna(row.recall) else against(lines[name], share, cost)
            says = better(row, rival) if rival and row.control != RIVAL else ""
            if says == FASTER and (dearer := against(lines[name], cost.most(row), cost)[0]):
                says = FASTER if better(row, dearer) == FASTER else UNCLEAR
            told |= {
                name: share,
                f"{name}_recall": rival.recall if rival else None,
                f"{name}_error": rival.error if rival else None,
                f"{name}_better": says if says == FASTER or not why else "",
                f"{name}_why": why,
            }
        found.append(told)
    return found


def curve(rivals: Rows, cost: Cost) -> list[Kept]:
    """Shorter contexts by their cost, as far as that is below that of all of it, which ends them."""
    known = [Kept(cost.alone(row), row.recall, row.error) for row in rivals.itertuples()]
    known = [one for one in known if pd.notna(one.share) and pd.notna(one.recall)]
    return [*sorted(one for one in known if one.share < WHOLE.share), WHOLE] if known else []


def against(line: Sequence[Kept], share: float, cost: Cost) -> tuple[Kept | None, str]:
    """The shorter context of this cost; or why there is none: that of the lowest budget, if one is lower."""
    if pd.isna(share):
        return None, cost.unknown
    if not line:
        return None, "the shorter context was not measured"
    if share < line[0].share * (1 - cost.near):
        return line[0], "no shorter context that costs so little was measured"
    if share <= line[0].share:
        return line[0], ""
    for low, high in pairwise(line):
        if share <= high.share:
            at = (share - low.share) / (high.share - low.share)
            return Kept(share, *(a + at * (b - a) for a, b in zip(low[1:], high[1:], strict=True))), ""
    return WHOLE, ""


def better(row: Any, rival: Kept) -> str:
    """Whether a row holds more than its rival, and errs less."""
    says = (row.recall > rival.recall) + (row.error < rival.error)
    return (SLOWER, UNCLEAR, FASTER)[says]


def where(rows: Rows, cost: str) -> str:
    """At which sparsities long and sparse is better, of those measured of one selector and context."""
    found: dict[str, list[str]] = {FASTER: [], SLOWER: [], UNCLEAR: [], "": []}
    for row in sorted(rows.itertuples(), key=asked):
        found[getattr(row, f"{cost}_better")].append(percent(asked(row)))
    if len(found[""]) == len(rows):
        return f"not measured: {rows[f'{cost}_why'].iloc[0]}"
    said = [f"at {listed(found[FASTER])}"] if found[FASTER] else []
    said += [f"not at {listed(found[SLOWER])}"] if found[SLOWER] else []
    said += [f"not clear at {listed(found[UNCLEAR])}"] if found[UNCLEAR] else []
    said += [f"not measured at {listed(found[''])}"] if found[""] else []
    return "; ".join(said)


def listed(sparsities: Sequence[str]) -> str:
    """50, 75 and 90 %."""
    *first, last = dict.fromkeys(sparsities)
    return f"{', '.join(first)} and {last} %" if first else f"{last} %"
