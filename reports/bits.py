"""bits: a layer in few bits with groups left out, beside fewer bits, 2:4 and all of it."""

from suite.reading.bits import GROUPS, layers
from suite.reading.scores import named
from suite.reading.statistics import estimate
from suite.report import page_of, report

RIVAL = "2:4"  # in 16 bits


@report
def bits(view):
    """Does sparsity pay on top of few bits, and up to how many tokens a call?"""
    sections = [section(number, one) for number, one in enumerate(layers(view.drawn[1]))]
    if sections:
        found = [lost(study, view) for study in view.studies]
        yield "bits", {"sections": sections, "lost": [one for one in found if one]}


def lost(study, view):
    """What models of few bits lose whose groups are as wide as kernels have them; None: there are none."""
    points = [
        {"method": curve.method, "control": curve.control, "point": point}
        for curve in study.curves
        for point in curve.points
        if curve.training == "none" and (curve.line == GROUPS or point.pattern == RIVAL)
    ]
    if all(one["point"].pattern == RIVAL for one in points):
        return None
    return {
        "name": study.task,
        "page": page_of("accuracy", named(study, view.studies)),
        "study": study,
        "points": sorted(points, key=lambda one: one["point"].loss.middle),
    }


def section(number, layer):
    """A layer: what each form takes, and each sparse one of few bits against the others."""
    return {
        **layer.about,
        "id": f"b{number}",
        "tokens": layer.tokens,
        "forms": [
            {"name": form, "bits": layer.bits(form), "best": [best(layer, form, n) for n in layer.tokens]}
            for form in layer.rows
        ],
        "rivalries": layer.rivalries(),
    }


def best(layer, form, n):
    """The fastest kernel of a form, if there is one, and what it takes."""
    row = layer.best(form, n)
    took = row and estimate(list(row.times.values()))
    return {"kernel": row.first.kernel, "seconds": took.middle} if row and took else None
