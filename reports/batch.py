"""batch: sparse activations against the tokens of a call: until when they pay, and what tokens share."""

from suite.reading import batch_figures as figures
from suite.reading.answers import called
from suite.reading.batch import batches, checked, titles, unions
from suite.reading.tokens import SHARED
from suite.reading.turning import measured, turning
from suite.report import report


@report
def batch(view):
    """Up to how many tokens a call do sparse activations pay, and how many neurons do these use together?"""
    rows = batches(*view.drawn)
    if rows.empty:
        return
    found = unions(rows)
    sections = [
        section(number, dict(zip(SHARED, about, strict=True)), same)
        for number, (about, same) in enumerate(rows.groupby(SHARED, sort=False))
    ]
    together = [
        union(f"u{number}", op, shape, same)
        for number, ((op, shape), same) in enumerate(found.groupby(["op", "shape"], sort=False))
        if (same["n"] > 1).any()
    ]
    yield "batch", {"sections": sections, "unions": together}


def section(number, about, rows):
    """A layer: until when each kernel and each method pays, a figure for each pattern, and the numbers."""
    sparse = rows[~rows["dense"]]
    given, chosen = sparse[~sparse["chosen"]], sparse[sparse["chosen"]]
    kernels, methods = (list(dict.fromkeys(one["kernel"])) for one in (given, chosen))
    masked = set(sparse[sparse["execution"] != "sparse"]["kernel"])
    tokens = sorted({int(n) for n in rows["n"]})
    named = titles(rows)
    return {
        **about,
        "id": f"s{number}",
        "title": title(about),
        "tokens": tokens,
        "kernels": [{"name": name, "masked": name in masked} for name in kernels],
        "panels": panels(f"s{number}-", given, kernels, named),
        "choices": panels(f"s{number}-c", chosen, methods, named),
        "methods": [
            {"name": name, "selector": same["selector"].iloc[0], "control": same["control"].iloc[0]}
            for name, same in zip(methods, of(chosen, methods), strict=True)
        ],
        "checks": [
            {
                "selector": row.selector,
                "title": named[row.pattern, row.data],
                "every": row.every,
                "alone": row.speed_up,
                "gain": row.gain,
                "density": share(row.density),
            }
            for row in checked(rows).sort_values(["pattern", "data", "gain"], ascending=False).itertuples()
        ],
    }


def panels(id, rows, kernels, named):
    """One for each pattern, and what data it is on."""
    found = sorted(rows.groupby(["pattern", "data"]), key=order)
    return [panel(f"{id}{at}", named[about], same, kernels) for at, (about, same) in enumerate(found)]


def order(pattern):
    """Kinds of patterns together, and of each the least sparse first."""
    _, rows = pattern
    return rows["line"].iloc[0], rows["data"].iloc[0], rows["sparsity"].fillna(0).mean()


def title(about):
    """Op, shape, dtype and state of the cache."""
    return ", ".join((*called(about["op"]), about["shape"], about["dtype"], f"{about['cache']} cache"))


def panel(id, name, rows, kernels):
    """A pattern: up to which batch it pays, and each kernel's speed-up."""
    tokens = sorted({int(n) for n in rows["n"]})
    able = rows[rows["speed_up"].notna()]
    read = rows[~rows["chosen"]]  # what is chosen, each method reads its own of
    return {
        "id": id,
        "title": name,
        "tokens": tokens,
        "pays": [
            turning(measured(same, "n", "speed_up"), "token")
            for same in (rows[rows["best"]], *of(rows, kernels))
        ],
        "figure": figures.speed_up(
            rows, "n", "tokens a call", {one: at for at, one in enumerate(kernels)}, "token", read=read
        )
        if able["n"].nunique() > 1
        else None,
        "live": [share(read[read["n"] == n]["live"].mean()) for n in tokens],
        "kernels": [
            {"name": one, "at": [at.get(n) for n in tokens]}
            for one, same in zip(kernels, of(rows, kernels), strict=True)
            if (at := {point.at: point for point in measured(same, "n", "speed_up")})
        ],
    }


def of(rows, kernels):
    """The rows of each kernel."""
    return [rows[rows["kernel"] == one] for one in kernels]


def union(id, op, shape, rows):
    """What tokens of a layer have in common: its figure, and a row for each pattern and number of them."""
    named = titles(rows)
    return {
        "id": id,
        "title": ", ".join((*called(op), shape)),
        "figure": figures.union(rows) if rows["n"].nunique() > 1 else None,
        "rows": [
            {
                "pattern": named[row.pattern, row.data],
                "method": row.line if row.chosen else None,
                "n": f"{row.n:.0f}",
                "live": share(row.live),
                "law": share(row.law),
                "over": row.live / row.law if row.law else None,
            }
            for row in rows.sort_values(["chosen", "line", "asked", "n"], kind="stable").itertuples()
        ],
    }


def share(value):
    """In percent; None of what is not known."""
    return f"{100 * value:.1f} %" if value == value else None
