"""Batch: sparse activations against the tokens of a call, and what these have in common.

A call reads the weights of every neuron that counts for one of its tokens. If tokens choose independently and
all neurons are alike, n tokens leave s^n of them out: what a kernel may skip is gone long before n is large.
Neurons that serve most tokens make the union grow more slowly.
"""

from collections.abc import Sequence

import pandas as pd

from suite.activations import union_law
from suite.reading.frame import Rows
from suite.reading.row import Row
from suite.reading.tokens import by_tokens, share_of
from suite.reading.units import percent

OPS = ("actmm", "actmm_up")  # whose pattern says which neuron (a row) counts for which token (a column)

OPERAND = ["op", "shape", "line", "pattern", "n"]


def batches(frame: pd.DataFrame, rows: Sequence[Row]) -> Rows:
    """The frame's timed rows of sparse activations.

    shape: m and k; live: the share of neurons that count for some token, counted; None where no line says it.
    """
    table, _ = by_tokens(frame, rows, OPS)
    empty = [share_of(one, "empty_rows") for one in table["structure"]]
    live = pd.Series([None if one is None else 1 - one for one in empty], dtype=float)
    return table.assign(live=live)


def unions(table: Rows) -> Rows:
    """What tokens have in common: a row for each op, shape, pattern and n of `batches`; seeds are averaged.

    live: as counted; law: 1 - s^n. Neither asks for a device or a dtype.
    """
    cases = table.dropna(subset=["live", "sparsity"]).drop_duplicates(["case", "data"])
    found = cases.groupby(OPERAND, sort=False)[["sparsity", "live"]].mean().reset_index()
    law = [union_law(1 - one.sparsity, int(one.n)) for one in found.itertuples()]
    return found.assign(law=pd.Series(law, dtype=float))


def titles(table: Rows) -> dict[str, str]:
    """What to call each pattern. The sparsity that is counted differs from batch to batch by a rounding."""
    found = {}
    for pattern, rows in table.groupby("pattern", sort=False):
        kept = rows["sparsity"].mean()
        found[pattern] = str(pattern) if pd.isna(kept) else f"{rows['line'].iloc[0]}, {percent(kept)} %"
    return found
