"""routing: mixtures of experts against how unevenly tokens go to experts, and how many tokens there are."""

import pandas as pd

from suite.reading import batch_figures as figures
from suite.reading.answers import called
from suite.reading.orderings import orderings
from suite.reading.routing import ASKED, alone, as_dense, routed
from suite.reading.sharding import DEVICES, placements
from suite.reading.turning import measured, number, turning
from suite.report import report

EQUAL = "dense of as many FLOPs"
ONE = "one expert alone, a dense layer"
UPCYCLED = "sparse-upcycling"  # the paper whose claims are of the quality of such a mixture


@report
def routing(view):
    """What do uneven routes cost, and which kernel of a mixture of experts bears them?"""
    rows = routed(*view.drawn)
    if rows.empty:
        return
    sections = [
        section(at, dict(zip(ASKED, about, strict=True)), same, rows)
        for at, (about, same) in enumerate(rows.groupby(ASKED, sort=False))
    ]
    quality = [one for one in orderings(view.studies) if one.id == UPCYCLED]
    yield "routing", {"sections": sections, "quality": quality}


def section(at, about, rows, table):
    """A layer: in words what each kernel bears, figures against imbalance and tokens, and the numbers."""
    sparse = rows[~rows["dense"]]
    kernels = list(dict.fromkeys(sparse["kernel"]))
    numbers = {one: place for place, one in enumerate(kernels)}
    panels = [
        panel(f"s{at}-{place}", int(n), same, numbers)
        for place, (n, same) in enumerate(rows.groupby("n", sort=True))
    ]
    tokens = [one["n"] for one in panels]
    growing = growth(f"s{at}-tokens", rows, as_dense(table, rows), alone(table, rows), numbers)
    drawn = {
        "speed-up against imbalance": any(one["figure"] for one in panels),
        "time against tokens": growing is not None,
    }
    return {
        **about,
        "id": f"s{at}",
        "title": ", ".join((*called(about["op"]), about["shape"], about["dtype"], f"{about['cache']} cache")),
        "asks": f"each token asks {about['asked']:.0f} of {rows['experts'].iloc[0]:.0f} experts",
        "words": [words(one, sparse[sparse["kernel"] == one], tokens) for one in kernels],
        "panels": panels,
        "growth": growing,
        "sharded": sharded(rows),
        "drawn": ", ".join(name for name, there in drawn.items() if there).capitalize(),
    }


def words(name, rows, tokens):
    """Up to which imbalance a kernel pays, and is the fastest sparse one, at each number of tokens."""
    return {
        "name": name,
        "masked": (rows["execution"] != "sparse").any(),
        "at": [
            {
                "pays": turning(measured(same, "imbalance", "speed_up")),
                "leads": turning(measured(same, "imbalance", "lead")),
            }
            for same in (rows[rows["n"] == n] for n in tokens)
        ],
    }


def panel(id, n, rows, numbers):
    """So many tokens: the traces by their imbalance, and every kernel on each."""
    sparse = rows[~rows["dense"]]
    able = sparse[sparse["speed_up"].notna()]
    ordered = rows.sort_values(["imbalance", "trace", "median"], kind="stable")
    return {
        "id": id,
        "n": n,
        "title": f"{n:,} {'token' if n == 1 else 'tokens'}",
        "figure": figures.speed_up(sparse, "imbalance", "highest load / mean load", numbers)
        if able["imbalance"].nunique() > 1
        else None,
        "traces": [trace(same) for _, same in ordered.groupby("case", sort=False)],
        "rows": list(ordered.itertuples()),
    }


def trace(rows):
    """How a trace is routed, and who is fastest on it."""
    row = rows.iloc[0]
    best = rows[rows["best"]].sort_values("median")
    return {
        "name": row["trace"],
        "imbalance": number(row["imbalance"]),
        "cv": row["cv"],
        "entropy": row["entropy"],
        "dropped": row["dropped"],
        "touched": row["touched"],
        "uniform": row["uniform"],
        "best": best["kernel"].iloc[0] if len(best) else None,
        "median": best["median"].iloc[0] if len(best) else None,
    }


def sharded(rows):
    """The traces of the most tokens over logical devices, counted; None where no route can be."""
    most = rows[rows["n"] == rows["n"].max()].drop_duplicates("case").sort_values("imbalance", kind="stable")
    found = [(row.trace, one) for row in most.itertuples() for one in placements(row.case)]
    return {"devices": DEVICES, "n": int(rows["n"].max()), "rows": found} if found else None


def growth(id, rows, equal, one, numbers):
    """Time against tokens on the trace that was measured at most of their numbers; None of one number.

    equal, one: rows of dense layers of as many FLOPs, and of one expert.
    """
    counts = rows.groupby("trace", sort=False)["n"].nunique()
    name = counts.idxmax()
    if counts[name] < 2:
        return None
    same = rows[rows["trace"] == name]
    dense = same[same["dense"] & same["best"]].assign(kernel=figures.DENSE)
    asked, experts = rows[["asked", "experts"]].iloc[0]
    beside = [
        layer[layer["n"].isin(set(same["n"]))].assign(kernel=name)
        for layer, name, is_this in ((equal, EQUAL, asked == experts), (one, ONE, 1 in (experts, asked)))
        if not is_this
    ]
    drawn = pd.concat([same[~same["dense"]], dense, *beside])
    tokens = sorted({int(n) for n in drawn["n"]})
    quickest = same.groupby("n")["median"].min().to_dict()
    slower = {int(row.n): quickest[row.n] / row.median for row in drawn[drawn["kernel"] == ONE].itertuples()}
    return {
        "id": id,
        "trace": name,
        "tokens": tokens,
        "slower": [slower.get(n) for n in tokens] if slower else [],
        "figure": figures.times(drawn, "n", "tokens a call", numbers, "token"),
        "rows": [
            {"name": kernel, "at": [at.get(n) for n in tokens]}
            for kernel, each in drawn.groupby("kernel", sort=False)
            if (at := each.groupby("n")["median"].median().to_dict())
        ],
    }
