"""kernel: a page for each: what it is, how it stands in each slice, what came of it, what papers claim."""

from collections import Counter

from suite.papers import papers
from suite.report import page_of, report
from suite.selector import entries


@report
def kernel(view):
    """What is this kernel, where does it rank, and where does it fail?"""
    frame, there = view.frame, entries()
    standing = {}
    for part in view.ranking:
        for place in part.places:
            standing.setdefault(place.kernel, []).append((part, place))
    for name, rows in frame.groupby("kernel", sort=True):
        known = there.get(name)
        best = rows[rows["best"] & ~rows["dense"]]
        yield (
            page_of("kernel", name),
            {
                "name": name,
                "about": known.about if known else "",
                "dense": bool(rows["dense"].all()),
                "execution": ", ".join(rows["execution"].unique()),
                "outcomes": Counter(rows["outcome"]).most_common(),
                "cases": rows["case"].nunique(),
                "best": len(best),
                "faster": int((best["speed_up_low"] > 1).sum()),
                "standing": standing.get(name, []),
                "failures": failures(rows[rows["visits"] == 0]),
                "claims": [{"id": id, **papers()[id]} for id in view.ids[name] if id in papers()],
                "devices": rows["device"].nunique(),
            },
        )


def failures(rows):
    """Why it has no time, each reason once."""
    return [
        {"outcome": outcome, "note": note, "cases": len(same), "case": same["case"].iloc[0]}
        for (outcome, note), same in rows.groupby(["outcome", "note"], sort=False)
    ]
