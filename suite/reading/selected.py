"""Selected: what selectors cost and what they keep: every row of a chosen case, with its quality.

At an equal budget the question is double: does it keep more of what matters than luck, and is it faster than
the best dense kernel with the choosing inside the clock? Only two yeses make a selector worth having. At an
equal error it is how much each may leave out. Where a kernel was seen at work in a layer too, the speed-up of
the whole layer stands beside that of the op: the layer has parts that no choice makes faster.
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


IN_LAYER = {
    "median": "layer_median",
    "speed_up": "layer_speed_up",
    "speed_up_low": "layer_low",
    "speed_up_high": "layer_high",
    "best_dense_median": "layer_dense",
}


def selected(frame: pd.DataFrame, rows: Sequence[Row], layers: pd.DataFrame | None = None) -> pd.DataFrame:
    """The frame's rows of selectors that were timed, with what `rows`, in the same order, say of quality.

    control; length: of the context; share: of the time that choosing takes; recall, error, cosine;
    executed: FLOPs with those of choosing, where they are stated; whole: those of attention in full;
        of_a_token: those of one token for every query;
    perplexity: over that of the whole, where the input has a language to ask about;
    near: of a cache that lies far, the share that the selector keeps at hand;
    luck: the recall of blind choice on the same case; beats_luck, pays: in words.
    layers: the frame of the same kernels at work in layers. Of it layer_median, layer_speed_up, layer_low,
        layer_high; layer_dense: the best dense layer's time; layer_share: the op's part of that.
    """
    at = [number for number, row in enumerate(rows) if row.first.selector and row.timed and is_chosen(row)]
    table = frame.iloc[at].reset_index(drop=True)
    told = pd.DataFrame([of_row(rows[number]) for number in at], columns=list(NOTHING))
    told = told.astype({name: float for name, value in NOTHING.items() if value is None})
    table = pd.concat([table, told], axis=1)
    table["share"] = table["choosing"] / table["median"]
    blind: Rows = table[table["control"] == "luck"]
    luck = blind.groupby(SAME, sort=False)["recall"].max()
    table["luck"] = [luck.get(tuple(key)) for key in table[SAME].itertuples(index=False)]
    table["beats_luck"] = [beats(row) for row in table.itertuples()]
    table["pays"] = [pays(row) for row in table.itertuples()]
    return within(table, frame.iloc[:0] if layers is None else layers)


def within(table: Rows, layers: Rows) -> pd.DataFrame:
    """The table with what the same kernels came to in a layer."""
    keys = [*SAME, "kernel"]
    seen = layers[[*keys, *IN_LAYER]].rename(columns=IN_LAYER).drop_duplicates(keys)
    table = table.merge(seen, how="left", on=keys)
    return table.assign(layer_share=table["best_dense_median"] / table["layer_dense"])


NOTHING: dict[str, Any] = {
    "control": "",
    "length": None,
    "executed": None,
    "whole": None,
    "of_a_token": None,
    "choosing": None,
    "recall": None,
    "error": None,
    "cosine": None,
    "perplexity": None,
    "near": None,
}


def is_chosen(row: Row) -> bool:
    """Whether what it keeps was chosen at run time."""
    pattern = pattern_of(row.first.pattern)
    return pattern is not None and pattern.at_run_time


def of_row(row: Row) -> dict[str, Any]:
    """What its lines say beside their times: the middle visit's."""
    lines = list(row.timed.values())
    seconds = [line.select_seconds for line in lines if line.select_seconds is not None]
    sizes, whole = row.first.sizes, row.first.flops_nominal
    work = [line.flops_executed for line in lines if line.flops_executed is not None]
    found = NOTHING | {
        "control": row.first.control or "",
        "length": sizes.get("t", sizes.get("n")),
        "choosing": median(seconds) if seconds else None,
        "executed": median(work) if work else None,
        "whole": whole,
        "of_a_token": 4 * sizes["h"] * sizes["d"] * sizes["n"] if {"h", "d", "n"} <= sizes.keys() else None,
    }
    for name in ("recall", "error", "cosine", "perplexity", "near"):
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


def asked(row: Any) -> float:
    """The sparsity that a row's budget asks for: selectors meet it to a unit, or on average."""
    return float(row.pattern.partition("@")[2])


def afforded(rows: Rows, error: float) -> float | None:
    """The sparsity at which a selector's error is this much; None: beyond what was measured.

    rows: its budgets on one input. Between them is a straight line; the first leaves out nothing and errs
    nothing. With perplexity for the error it is the PPL-p% sparsity of Luo et al., "Sparsing Law", 2024.
    """
    last, before = 0.0, 0.0
    for at, found in sorted((asked(row), row.error) for row in rows.itertuples() if pd.notna(row.error)):
        if found > error:
            return last + (at - last) * (error - before) / (found - before)
        last, before = at, found
    return None
