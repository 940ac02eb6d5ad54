"""batch: sparse activations against the tokens of a call: until when they pay, and what tokens share."""

from suite.reading import batch_figures as figures
from suite.reading.answers import called
from suite.reading.batch import batches, titles, unions
from suite.reading.tokens import SHARED
from suite.reading.turning import measured, turning
from suite.report import report


@report
def batch(view):
    """Up to how many tokens a call do sparse activations pay, and how many neurons do these use together?"""
    rows = batches(view.frame, view.rows)
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
    yield "batch", {"sections": sections, "unions": together, "devices": rows["device"].nunique()}


def section(number, about, rows):
    """A layer: until when each kernel pays on each pattern, a figure for each, and the numbers."""
    sparse = rows[~rows["dense"]]
    kernels = list(dict.fromkeys(sparse["kernel"]))
    masked = set(sparse[sparse["execution"] != "sparse"]["kernel"])
    tokens = sorted({int(n) for n in rows["n"]})
    named = titles(rows)
    return {
        **about,
        "id": f"s{number}",
        "title": title(about),
        "tokens": tokens,
        "kernels": [{"name": name, "masked": name in masked} for name in kernels],
        "panels": [
            panel(f"s{number}-{at}", named[pattern], same, kernels)
            for at, (pattern, same) in enumerate(sorted(sparse.groupby("pattern"), key=order))
        ],
    }


def order(pattern):
    """Kinds of patterns together, and of each the least sparse first."""
    _, rows = pattern
    return rows["line"].iloc[0], rows["sparsity"].fillna(0).mean()


def title(about):
    """Op, shape, dtype and state of the cache."""
    return ", ".join((*called(about["op"]), about["shape"], about["dtype"], f"{about['cache']} cache"))


def panel(id, name, rows, kernels):
    """A pattern: up to which batch it pays, and each kernel's speed-up."""
    tokens = sorted({int(n) for n in rows["n"]})
    able = rows[rows["speed_up"].notna()]
    return {
        "id": id,
        "title": name,
        "tokens": tokens,
        "pays": [
            turning(measured(same, "n", "speed_up"), "token")
            for same in (rows[rows["best"]], *of(rows, kernels))
        ],
        "figure": figures.speed_up(
            rows, "n", "tokens a call", {one: at for at, one in enumerate(kernels)}, "token", read=rows
        )
        if able["n"].nunique() > 1
        else None,
        "live": [share(rows[rows["n"] == n]["live"].mean()) for n in tokens],
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
                "pattern": named[row.pattern],
                "n": f"{row.n:.0f}",
                "live": share(row.live),
                "law": share(row.law),
                "over": row.live / row.law if row.law else None,
            }
            for row in rows.sort_values(["line", "sparsity", "n"], kind="stable").itertuples()
        ],
    }


def share(value):
    """In percent; None of what is not known."""
    return f"{100 * value:.1f} %" if value == value else None
