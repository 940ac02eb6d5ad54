"""isoflop: does a larger sparse model beat a smaller dense one, at equal FLOPs, bytes and training?"""

from suite.reading import score_figures
from suite.reading.iso import COSTS, duels, is_dense, share, trained
from suite.reading.scores import named
from suite.report import page_of, report

LEAD = 8  # methods a figure can tell apart


@report
def isoflop(view):
    """At equal FLOPs, equal bytes or equal training: larger and sparse, or smaller and dense?"""
    sections = [section(number, study, view.studies) for number, study in enumerate(view.studies)]
    if found := [one for one in sections if one]:
        yield "isoflop", {"sections": found}


def section(number, study, among):
    """One task: for each cost a figure, and a table of duels."""
    curves = [one for one in trained(study) if one.line == "unstructured"]
    if not any(is_dense(one) for one in curves) or not study.dense:
        return None
    lead = leaders(curves)
    return {
        "id": f"t{number}",
        "name": study.task,
        "page": page_of("accuracy", named(study, among)),
        "toy": study.any.toy,
        "metric": study.metric,
        "seeds": study.seeds,
        "costs": [part(f"t{number}-{cost}", study, cost, curves, lead) for cost in COSTS],
    }


def part(id, study, cost, curves, lead):
    """One kind of cost."""
    says, _ = COSTS[cost]
    found = duels(study, cost)
    return {
        "id": id,
        "title": says,
        "figure": score_figures.against_cost(
            curves,
            study.dense_value,
            study.metric,
            lambda point: share(point, cost, study.dense),
            f"{says}, over those of the dense model",
            lead,
        ),
        "duels": found,
        "wins": sum(one.verdict is True for one in found),
        "losses": sum(one.verdict is False for one in found),
    }


def leaders(curves):
    """The small dense models, those of equal cost, and the best others."""
    first = sorted(curves, key=lambda one: (not is_dense(one), one.first.iso is None, loss(one)))
    return {one.method: at for at, one in enumerate(first[:LEAD])}


def loss(curve):
    """The mean over its sparsities."""
    return sum(point.loss.middle for point in curve.points) / len(curve.points)
