"""table: every result in one table, to filter, sort, copy and send as a link. Its script loads its data."""

from pathlib import Path

from suite.papers import papers
from suite.report import Data, page_of, report

WORDS = {  # column -> its heading. Those with a select above the table are FILTERS
    "device": "device",
    "workload": "workload",
    "op": "operation",
    "pattern": "pattern",
    "dtype": "dtype",
    "regime": "regime",
    "cache": "cache",
    "kernel": "kernel",
    "status": "status",
    "role": "best of its case",
    "sizes": "sizes",
    "threads": "threads",
    "measured": "measured on",
    "state": "measured by",
    "note": "remarks",
    "claims": "papers’ claims (theirs)",
    "case": "case",
}

FILTERS = [
    "device",
    "workload",
    "op",
    "pattern",
    "dtype",
    "regime",
    "cache",
    "kernel",
    "status",
    "role",
    "state",
]

NUMBERS = {  # column -> (heading, how it is written)
    "sparsity": ("sparsity", "percent"),
    "n": ("tokens", "plain"),
    "median": ("time", "seconds"),
    "speed_up": ("speed-up", "times"),
    "realised": ("realised", "share"),
    "roofline": ("of the roofline", "share"),
    "setup": ("setup", "seconds"),
    "break_even": ("pays after", "count"),
    "joules": ("energy", "joules"),
    "joules_saved": ("energy saved", "joules"),
}

BOUNDS = {  # column -> those of its interval
    "median": ("low", "high"),
    "speed_up": ("speed_up_low", "speed_up_high"),
    "break_even": ("break_even_low", "break_even_high"),
}

ORDER = """
kernel device workload op pattern sparsity sizes n regime dtype cache threads status role median speed_up
realised roofline setup break_even joules joules_saved measured state note claims case
"""

SHOWN = """
kernel device workload op pattern sparsity sizes dtype cache status median speed_up realised setup break_even
joules case
"""


@report
def table(view):
    """Every result, to filter, sort, copy and send as a link."""
    if view.frame.empty:
        return
    told = view.frame.assign(**words(view))
    chunks = []
    for (device, workload), rows in told.groupby(["device", "workload"], sort=False):
        name = page_of("table", f"{device}-{workload}")
        if any(chunk["name"] == name for chunk in chunks):
            name = page_of("table", f"{device}/{workload}")
        yield name, Data(chunk(rows))
        facets = {column: sorted(rows[column].astype(str).unique()) for column in FILTERS}
        chunks.append({"name": name, "rows": len(rows), "facets": facets})
    manifest = {
        "chunks": chunks,
        "filters": FILTERS,
        "columns": [column(name) for name in ORDER.split()],
        "shown": SHOWN.split(),
        "kernels": {name: page_of("kernel", name) for name in sorted(told["kernel"].unique())},
    }
    yield "table-manifest", Data(manifest)
    yield "parquet", Path(__file__).with_name("parquet.js")
    yield "table", {"filters": {name: WORDS[name] for name in FILTERS}, "rows": len(told)}


def column(name):
    heading, form = NUMBERS.get(name) or (WORDS[name], "word")
    return {"name": name, "heading": heading, "form": form, "bounds": BOUNDS.get(name, ())}


def words(view):
    """Columns of the table that the frame has not, or calls otherwise."""
    frame, firsts = view.frame, [row.first for row in view.rows]
    return {
        "pattern": frame["line"],
        "status": frame["outcome"],
        "role": [
            f"best {'dense' if dense else 'sparse'}" if best else "no"
            for best, dense in zip(frame["best"], frame["dense"], strict=True)
        ],
        "measured": [line.started[:10] for line in firsts],
        "state": [stands(view, row) for row in view.rows],
        "note": [
            "; ".join(filter(None, said)) for said in zip(frame["note"], frame["disturbed"], strict=True)
        ],
        "claims": frame["kernel"].map({name: claims(ids) for name, ids in view.ids.items()}),
        "page": frame["case"].map({id: page_of("case", id) for id in frame["case"].unique()}),
    }


def stands(view, row):
    """Who stands behind a row's visits: ours, re-run or reported; and whether they are old."""
    names = dict.fromkeys(view.states[number].name for number, _ in row.lines)
    return " and ".join(names) + (", old" if row.old else "")


def claims(ids):
    """What the papers a kernel serves say of themselves."""
    known = papers()
    return "; ".join(f"{known[id]['title']}: {known[id]['claim']}" for id in ids if id in known)


def chunk(rows):
    """Rows as columns: words by their number in a list of all there are, numbers to four digits."""
    made = {"rows": len(rows), "words": {}, "numbers": {}}
    for name in (*WORDS, "page"):
        known = {}
        codes = [known.setdefault(str(word), len(known)) for word in rows[name]]
        made["words"][name] = {"list": list(known), "codes": codes}
    for name in NUMBERS:
        for part in (name, *BOUNDS.get(name, ())):
            made["numbers"][part] = [
                None if value != value else float(f"{value:.4g}") for value in rows[part].tolist()
            ]
    made["numbers"]["sparsity"] = [
        None if value != value else round(value, 6) for value in rows["sparsity"].tolist()
    ]
    return made
