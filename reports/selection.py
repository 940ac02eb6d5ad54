"""selection: what choosing costs and what it keeps: every selector at an equal budget, beside dense."""

from suite.inputs import INPUTS
from suite.reading import figures
from suite.reading.answers import called
from suite.reading.batch import OPS as ACTIVATIONS
from suite.reading.frame import tidy
from suite.reading.selected import FASTER, afforded, asked, selected, shortest
from suite.reading.shorter import CONTEXT, COSTS, RIVAL, shorter, to_the_end, where
from suite.reading.units import percent
from suite.report import report

LENGTHS = ["device", "op", "dtype", "cache", "threads", "data", "kernel", "sparsity"]
LEAD = 8  # selectors a figure can tell apart
ERRORS = (0.05, 0.1, 0.2, 0.4)  # that may be affordable


@report
def selection(view):
    """Which selector keeps more than luck, and is faster than dense with its choosing inside the clock?"""
    rows = quickest(selected(*view.drawn, tidy(view.recorded, "layer")))
    if rows.empty:
        return
    rows = shorter(rows)
    sections = [
        section(number, dict(zip(CONTEXT, about, strict=True)), same)
        for number, (about, same) in enumerate(rows.groupby(CONTEXT, sort=False))
    ]
    yield "selection", {"sections": sections, "lengths": lengths(rows), "contexts": contexts(rows)}


def quickest(rows):
    """Of several kernels that take what a selector chose on a case, the fastest."""
    ordered = rows.sort_values("speed_up", ascending=False, kind="stable", na_position="last")
    return rows.loc[sorted(ordered.drop_duplicates([*CONTEXT, "case", "selector"]).index)]


def section(number, about, rows):
    """One length on one input: a table for each sparsity, and quality against speed."""
    rows = rows.assign(asked=[asked(row) for row in rows.itertuples()])
    methods = rows[rows["control"] == ""]
    both = methods[(methods["beats_luck"] == FASTER) & (methods["pays"] == FASTER)]
    known = INPUTS.get(about["data"])
    return {
        **about,
        "id": f"s{number}",
        "title": ", ".join((*called(about["op"]), about["sizes"], about["dtype"], f"{about['cache']} cache")),
        "input": known.about.partition("\n")[0] if known else "",
        "methods": methods["selector"].nunique(),
        "worth": sorted(set(both["selector"])),
        "figure": figures.kept(rows, "recall", leaders(methods)),
        "tables": [
            {
                "sparsity": percent(sparsity),
                "dense": same["best_dense"].iloc[0],
                "dense_median": same["best_dense_median"].iloc[0],
                "layer": layer(same),
                "language": same["perplexity"].notna().any(),
                "far": same["near"].notna().any(),
                "rows": list(same.sort_values("speed_up", ascending=False).itertuples()),
            }
            for sparsity, same in rows.groupby("asked")
        ],
        "units": "activations" if about["op"] in ACTIVATIONS else "blocks",
        "errors": [percent(one) for one in ERRORS],
        "afforded": errors(rows) if rows["pattern"].nunique() > 1 else [],
        "shorter": None if about["op"] in ACTIVATIONS else beside(rows, methods),
    }


def beside(rows, methods):
    """Long and sparse beside short and dense, at equal cost. None: no shorter context was measured."""
    if (rows["control"] != RIVAL).all():
        return None
    return {
        "better": {
            cost.says: sorted(set(methods[methods[f"{name}_better"] == FASTER]["selector"]))
            for name, cost in COSTS.items()
        },
        "rival": rows[rows["control"] == RIVAL]["selector"].iloc[0],
        "figure": figures.kept(to_the_end(rows), "recall", leaders(methods), "work"),
        "rows": [
            (percent(row.asked), row)
            for row in rows.sort_values(["asked", "work"], kind="stable").itertuples()
            if row.control != RIVAL
        ],
    }


def layer(rows):
    """Of the best dense layer its time, the op's share, and the speed-up were the op free. None: not seen."""
    seen = rows.dropna(subset=["layer_share"])
    if seen.empty:
        return None
    share = min(1.0, seen["layer_share"].iloc[0])
    most = 1 / (1 - share) if share < 1 else None
    return {"median": seen["layer_dense"].iloc[0], "share": share, "most": most}


def errors(rows):
    """How much each selector may leave out at every error, the frugal first."""
    found = [
        {
            "selector": name,
            "control": same["control"].iloc[0],
            "most": percent(max(asked(row) for row in same.itertuples())),
            "at": [afforded(same, one) for one in ERRORS],
        }
        for name, same in rows.groupby("selector", sort=False)
        if same["error"].notna().any()
    ]
    return sorted(found, key=lambda one: [-1 if at is None else -at for at in one["at"]])


def leaders(methods):
    """Methods that no other beats in both time and recall at some sparsity, the most often first."""
    front = {}
    for _, same in methods.groupby("case"):
        for row in same.itertuples():
            beaten = (same["speed_up"] > row.speed_up) & (same["recall"] > row.recall)
            front[row.selector] = front.get(row.selector, 0) + (not beaten.any())
    ordered = sorted(front, key=lambda name: -front[name])
    return {name: at for at, name in enumerate([name for name in ordered if front[name]][:LEAD])}


def contexts(rows):
    """Of each method and context, at which sparsities it is better than a shorter one of equal cost."""
    return [
        {
            "section": f"s{number}",
            "selector": name,
            "op": same["op"].iloc[0],
            "data": same["data"].iloc[0],
            "tokens": same["length"].iloc[0],
            "where": [where(same, cost) for cost in COSTS],
        }
        for number, (_, one) in enumerate(rows.groupby(CONTEXT, sort=False))
        for name, same in one[(one["control"] == "") & ~one["op"].isin(ACTIVATIONS)].groupby("selector")
    ]


def lengths(rows):
    """From which length of a context on each pays, where several were measured."""
    rows = rows[~rows["op"].isin(ACTIVATIONS)]
    keys = [*LENGTHS[:-1], rows["pattern"]]
    return [
        {
            "selector": same["selector"].iloc[0],
            "kernel": same["kernel"].iloc[0],
            "op": same["op"].iloc[0],
            "data": same["data"].iloc[0],
            "pattern": same["pattern"].iloc[0],
            "measured": ", ".join(f"{n:.0f}" for n in sorted(set(same["length"]))),
            "from": shortest(same),
        }
        for _, same in rows.groupby(keys, sort=False)
        if same["length"].nunique() > 1 and (same["control"] == "").all()
    ]
