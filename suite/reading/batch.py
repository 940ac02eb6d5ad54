"""Batch: sparse activations against the tokens of a call, and what these have in common.

A call reads the weights of every neuron that counts for one of its tokens. If tokens choose independently and
all neurons are alike, n tokens leave s^n of them out: what a kernel may skip is gone long before n is large.
Neurons that serve most tokens make the union grow more slowly. Where rules choose them at run time, each rule
has a union of its own.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from suite.activations import union_law
from suite.reading.frame import Rows
from suite.reading.row import Row
from suite.reading.selected import asked, is_chosen
from suite.reading.tokens import by_tokens, share_of
from suite.reading.units import percent

OPS = ("actmm", "actmm_up")  # whose pattern says which neuron (a row) counts for which token (a column)

EVERY = 16  # tokens, after which Sirius checks

OPERAND = ["op", "shape", "chosen", "line", "pattern", "data", "n"]


def batches(frame: pd.DataFrame, rows: Sequence[Row]) -> Rows:
    """The frame's timed rows of sparse activations.

    shape: m and k; live: the share of neurons that count for some token, counted; None where no line says it;
    chosen: whether they are chosen at run time; control: of a selector that is no method, which.
    """
    table, kept = by_tokens(frame, rows, OPS)
    empty = [share_of(one, "empty_rows") for one in table["structure"]]
    live = pd.Series([None if one is None else 1 - one for one in empty], dtype=float)
    chosen = pd.Series([is_chosen(one) for one in kept], dtype=bool)
    controls = [one.first.control or "" for one in kept]
    return table.assign(live=live, chosen=chosen, control=controls)


def unions(table: Rows) -> Rows:
    """What tokens have in common: a row for each op, shape, pattern, n and, where it is chosen, method.

    live: as counted; law: 1 - s^n; seeds are averaged. Neither asks for a device or a dtype.
    line: the kind of pattern, or the method; asked: the sparsity that was asked for.
    """
    found = table.dropna(subset=["live", "sparsity"])
    found = found[~found["chosen"] | (found["selector"].notna() & (found["control"] == ""))]
    found = found.assign(line=found["line"].where(~found["chosen"], found["selector"]))
    found = found.drop_duplicates(["case", "line"])
    found = found.groupby(OPERAND, sort=False)[["sparsity", "live"]].mean().reset_index()
    law = [union_law(1 - one.sparsity, int(one.n)) for one in found.itertuples()]
    return found.assign(law=pd.Series(law, dtype=float), asked=sparsities(found))


def checked(rows: Rows) -> Rows:
    """Methods on one token, if dense calls check them: a row for each that was timed there, of `batches`.

    every: tokens of such a call, the most up to EVERY that a dense kernel was timed at; density: the share of
    weights read a token, checks included; gain: the best dense time over that of a token and its share of a
    check, as much as there is if no token is found wrong.

    After Zhou et al., "Sirius: Contextual Sparsity with Correction for Efficient LLMs", NeurIPS 2024.
    """
    alone = rows[rows["chosen"] & rows["selector"].notna() & (rows["n"] == 1) & (rows["control"] == "")]
    dense = rows[rows["dense"] & rows["best"] & (rows["n"] <= EVERY)].groupby("n")["median"].median()
    if 1 not in dense.index or len(dense) < 2:
        return alone.iloc[:0].assign(every=[], density=[], gain=[])
    every, one, many = int(dense.index[-1]), dense.iloc[0], dense.iloc[-1]
    return alone.assign(
        every=every,
        density=1 - alone["sparsity"] + 1 / every,
        gain=one / (alone["median"] + many / every),
    )


def sparsities(rows: Rows) -> list[float]:
    """That were asked for: a budget where it is chosen, else what there is."""
    return [asked(row) if row.chosen else row.sparsity for row in rows.itertuples()]


def titles(table: Rows) -> dict[tuple[str, str], str]:
    """What to call each pattern, with its data. What is counted differs from batch to batch by a rounding."""
    found = {}
    for (pattern, data), rows in table.groupby(["pattern", "data"], sort=False):
        kept = float(np.mean(sparsities(rows)))
        kind = "chosen" if rows["chosen"].iloc[0] else rows["line"].iloc[0]
        name = str(pattern) if np.isnan(kept) else f"{kind}, {percent(kept)} %"
        found[pattern, data] = ", ".join(one for one in (name, data) if one)
    return found
