"""Selected: what selectors cost and what they keep: every row of a chosen case, with its quality.

At an equal budget the question is double: does it keep more of what matters than luck, and is it faster than
dense attention with the choosing inside the clock? Only two yeses make a selector worth having.
"""

from collections.abc import Sequence
from statistics import median
from typing import Any

import pandas as pd

from suite.reading.about import pattern_of
from suite.reading.frame import Rows
from suite.reading.row import Row

SAME = ["device", "op", "dtype", "cache", "threads", "data", "sizes", "case"]
SLOWER, UNCLEAR, FASTER = "no", "not clear", "yes"


def selected(frame: pd.DataFrame, rows: Sequence[Row]) -> pd.DataFrame:
    """The frame's rows of selectors that were timed, with what `rows`, in the same order, say of quality.

    control; length: of the context; share: of the time that choosing takes; recall, error, cosine;
    luck: the recall of blind choice on the same case; beats_luck, pays: in words.
    """
    at = [number for number, row in enumerate(rows) if row.first.selector and row.timed and is_chosen(row)]
    table = frame.iloc[at].reset_index(drop=True)
    told = pd.DataFrame([of_row(rows[number]) for number in at], columns=list(NOTHING))
    table = pd.concat([table, told], axis=1)
    table["share"] = table["choosing"] / table["median"]
    blind: Rows = table[table["control"] == "luck"]
    luck = blind.groupby(SAME, sort=False)["recall"].max()
    table["luck"] = [luck.get(tuple(key)) for key in table[SAME].itertuples(index=False)]
    table["beats_luck"] = [beats(row) for row in table.itertuples()]
    table["pays"] = [pays(row) for row in table.itertuples()]
    return table


NOTHING: dict[str, Any] = {
    "control": "",
    "length": None,
    "choosing": None,
    "recall": None,
    "error": None,
    "cosine": None,
}


def is_chosen(row: Row) -> bool:
    """Whether what it keeps was chosen at run time."""
    pattern = pattern_of(row.first.pattern)
    return pattern is not None and pattern.at_run_time


def of_row(row: Row) -> dict[str, Any]:
    """What its lines say beside their times: the middle visit's."""
    lines = list(row.timed.values())
    seconds = [line.select_seconds for line in lines if line.select_seconds is not None]
    sizes = row.first.sizes
    found = NOTHING | {
        "control": row.first.control or "",
        "length": sizes.get("t", sizes.get("n")),
        "choosing": median(seconds) if seconds else None,
    }
    for name in ("recall", "error", "cosine"):
        values = [line.quality[name] for line in lines if name in line.quality]
        found[name] = median(values) if values else None
    return found


def beats(row: Any) -> str:
    """Whether a method keeps more than blind choice; of a control there is no asking."""
    if row.control or pd.isna(row.luck) or pd.isna(row.recall):
        return ""
    return FASTER if row.recall > row.luck else SLOWER


def pays(row: Any) -> str:
    """Whether it is faster than the best dense kernel, choosing included: by its interval, if it has one."""
    if pd.isna(row.speed_up):
        return ""
    low, high = (row.speed_up if pd.isna(end) else end for end in (row.speed_up_low, row.speed_up_high))
    return FASTER if low > 1 else SLOWER if high < 1 else UNCLEAR


def shortest(rows: Rows) -> str:
    """From which length on a selector pays, of the lengths that were measured: `rows` differ in it alone."""
    ordered = rows.sort_values("length")
    paying = [row.length for row in ordered.itertuples() if row.pays == FASTER]
    if not paying:
        return f"none up to {ordered['length'].max():.0f}"
    later = ordered[ordered["length"] > paying[0]]["pays"]
    return f"{paying[0]:.0f}" if (later == FASTER).all() else "more than once"
