"""structure: what else than sparsity decides: the best kernels' speed against the operand's statistics."""

from suite.reading import figures
from suite.reading.answers import called
from suite.reading.structure import SHARED, varied
from suite.report import page_of, report


@report
def structure(view):
    """How does the realised speed-up go with the structure of the matrix?"""
    sections = [
        section(number, dict(zip(SHARED, about, strict=True)), found)
        for number, (about, found) in enumerate(varied(view.drawn[0]))
    ]
    if sections:
        yield "structure", {"sections": sections}


def section(number, about, found):
    return about | {
        "id": f"s{number}",
        "title": ", ".join((*called(about["op"]), about["dtype"], f"{about['cache']} cache")),
        "relations": [
            {
                "id": f"s{number}-{at}",
                "says": one.says,
                "cases": len(one.rows),
                "correlation": one.correlation,
                "figure": figures.scatter(one.rows, one.says),
                "rows": [
                    {"row": row, "page": page_of("case", row.case)}
                    for row in one.rows.sort_values("statistic").itertuples()
                ],
            }
            for at, one in enumerate(found)
        ],
    }
