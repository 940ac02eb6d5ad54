"""limits: how close each kernel comes to the least time its work can take on this machine."""

from suite.reading import figures
from suite.reading.answers import called
from suite.reading.bound import LEVELS, sizes
from suite.reading.frame import ceilings_of
from suite.reading.limits import leaders
from suite.reading.units import percent
from suite.report import report

SHARED = ["device", "op", "dtype", "cache", "threads"]


@report
def limits(view):
    """How close does each kernel come to what the machine allows, and what holds it back?"""
    told = view.limits[view.limits["device"].isin(view.latest)]
    bounded = told.dropna(subset=["bound", "sparsity"])
    if bounded.empty:
        return
    sections = [
        section(number, dict(zip(SHARED, about, strict=True)), rows)
        for number, (about, rows) in enumerate(bounded.groupby(SHARED, sort=False))
    ]
    yield (
        "limits",
        {
            "machines": machines(view, bounded),
            "sections": sections,
            "unbounded": unbounded(told),
        },
    )


def machines(view, rows):
    """What each device was seen to reach, and what each of its cache levels holds for its threads."""
    about = {key: told for one in view.recorded if one.run for key, told in one.run.devices.items()}
    ceilings = ceilings_of(view.recorded)
    return [
        {
            "key": key,
            "name": about.get(key, {}).get("name", key),
            "threads": threads,
            "flops": {dtype: f"{rate / 1e9:,.0f} GFLOP/s" for dtype, rate in ceilings[key].flops.items()},
            "levels": [
                {
                    "name": level,
                    "holds": kibibytes(sizes(about.get(key, {}), threads).get(level)),
                    "rate": f"{ceilings[key].bandwidth[level] / 1e9:,.0f} GB/s",
                }
                for level in LEVELS
                if level in ceilings[key].bandwidth
            ],
        }
        for key, threads in rows.groupby("device", sort=False)["threads"].max().items()
    ]


def section(number, about, rows):
    """What shares device, op, dtype, cache and threads: a panel for each pattern and number of columns."""
    lines = list(dict.fromkeys(rows["line"]))
    found = sorted(
        rows.groupby([title(row) for row in rows.itertuples()], sort=False),
        key=lambda panel: (lines.index(panel[1]["line"].iloc[0]), panel[1]["n"].fillna(0).iloc[0]),
    )
    lead = [leaders(same) for _, same in found]
    numbers = {name: at for at, name in enumerate(dict.fromkeys(name for names in lead for name in names))}
    return {
        **about,
        "id": f"s{number}",
        "title": ", ".join((*called(about["op"]), about["dtype"], f"{about['cache']} cache")),
        "nearest": [nearest(kind) for _, kind in rows.groupby("dense")],
        "panels": [
            panel(f"s{number}-{at}", name, same, {one: numbers[one] for one in lead[at]})
            for at, (name, same) in enumerate(found)
        ],
    }


def title(row):
    """A pattern and a number of columns."""
    pattern = row.line if row.line.startswith(row.family) else f"{row.family} ({row.line})"
    return f"{pattern}, n {row.n:.0f}" if row.n == row.n else f"{pattern}, {row.sizes}"


def nearest(rows):
    """The kernel that comes closest, and where."""
    row = rows.loc[rows["fraction"].idxmax()]
    return {
        "kind": "dense" if row.dense else "sparse",
        "kernel": row.kernel,
        "fraction": row.fraction,
        "where": f"{title(row)}, {percent(row.sparsity)} %",
        "by": row.by,
    }


def panel(id, name, rows, lead):
    """A figure where there is a line to draw, and every kernel in a table: the fastest first."""
    sparsities = sorted(set(rows["sparsity"].round(4)))
    kernels = [*lead, *sorted(set(rows["kernel"]) - set(lead))]
    shapes = rows["sizes"].nunique()
    return {
        "id": id,
        "title": name,
        "shapes": shapes,
        "figure": figures.limits(rows, lead) if len(sparsities) > 1 else None,
        "sparsities": [percent(one) for one in sparsities],
        "kernels": [told(one, rows[rows["kernel"] == one], sparsities, one in lead) for one in kernels],
    }


def told(name, rows, sparsities, lead):
    """A kernel's line of the table. Cases of the same sparsity are averaged, as the figure does."""
    at = rows.groupby(rows["sparsity"].round(4))["fraction"].median()
    return {
        "name": name,
        "dense": bool(rows["dense"].any()),
        "lead": lead,
        "fractions": [at.get(one) for one in sparsities],
        "by": ", ".join(dict.fromkeys(rows["by"])),
        "level": ", ".join(dict.fromkeys(rows["level"])),
        "loads": arriving(rows.dropna(subset="loads")),
    }


def arriving(rows):
    """How quickly rows of b arrive, and from which level they then must."""
    if rows.empty:
        return ""
    rates = dict.fromkeys(f"{rate / 1e9:,.0f}" for rate in (rows["loads"].min(), rows["loads"].max()))
    levels = dict.fromkeys(rows.sort_values("loads")["from_level"])
    return f"{'-'.join(rates)} GB/s ({', '.join(levels)})"


def unbounded(rows):
    """Kernels that were timed and have no bound."""
    return sorted(set(rows[rows["bound"].isna()]["kernel"]) - set(rows[rows["bound"].notna()]["kernel"]))


def kibibytes(size):
    return "" if size is None else f"{size / 2**10:,.0f} KiB" if size < 2**20 else f"{size / 2**20:,.0f} MiB"
