"""isoflop: does a larger sparse model beat a smaller dense one, at equal FLOPs, bytes, training and time?"""

from suite.reading import score_figures
from suite.reading.iso import COSTS, duels, is_dense, met, penalties, share, trained
from suite.reading.mixtures import sweeps
from suite.reading.scaling import fitted
from suite.reading.scores import named
from suite.report import page_of, report

LEAD = 8  # methods a figure can tell apart


@report
def isoflop(view):
    """At equal FLOPs, bytes or training, in no more time: larger and sparse, or smaller and dense?"""
    sections = [section(number, study, view) for number, study in enumerate(view.studies)]
    if found := [one for one in sections if one]:
        yield "isoflop", {"sections": found}


def section(number, study, view):
    """One task: for each cost a figure, and a table of duels."""
    curves = [one for one in trained(study) if one.line == "unstructured"]
    curves, mixtures = curves if met(study, view.measured.get(study.device)) else [], sweeps(study)
    if not study.dense or not (curves or mixtures):
        return None
    lead, here = leaders(curves), view.measured.get(study.device)
    costs = {cost: list(parts(f"t{number}-{cost}", study, cost, curves, lead, view)) for cost in COSTS}
    return {
        "id": f"t{number}",
        "name": study.task,
        "page": page_of("accuracy", named(study, view.studies)),
        "toy": study.any.toy,
        "metric": study.metric,
        "seeds": study.seeds,
        "costs": [one for some in costs.values() for one in some],
        "unknown": [COSTS[name].says for name, some in costs.items() if not some],
        "penalties": penalties(study, here),
        "laws": fitted(study),
        "mixtures": mixtures,
    }


def parts(id, study, cost, curves, lead, view):
    """One kind of cost, on each device where it is measured; none where it is not known of any model."""
    devices = view.places(study) if COSTS[cost].near is None else [study.device]
    for place, device in enumerate(devices):
        here = view.measured.get(device)
        says = COSTS[cost].says + (f" on {device}" if device != study.device else "")
        if any(share(point, cost, study, here) for one in curves for point in one.points):
            yield part(f"{id}{place or ''}", study, cost, says, curves, lead, here)


def part(id, study, cost, says, curves, lead, here):
    """One kind of cost on one device."""
    found = duels(study, cost, here)
    return {
        "id": id,
        "title": says,
        "equal": f"Equal {says}" if COSTS[cost].near else f"No more {says}",
        "figure": score_figures.against_cost(
            curves,
            study.dense_value,
            study.metric,
            lambda point: share(point, cost, study, here),
            f"{says}, over those of the dense model",
            lead,
        ),
        "duels": found,
        "wins": sum(one.verdict is True for one in found),
        "losses": sum(one.verdict is False for one in found),
    }


def leaders(curves):
    """The best of the small dense models, of those of equal cost, and of the others."""
    kinds = [
        [one for one in curves if is_dense(one)],
        [one for one in curves if not is_dense(one) and one.first.iso],
        [one for one in curves if not is_dense(one) and not one.first.iso],
    ]
    best = [sorted(some, key=loss) for some in kinds]
    first = [one for some in best for one in some[: LEAD // len(kinds)]]
    first += [one for some in best for one in some if one not in first]
    return {one.method: at for at, one in enumerate(first[:LEAD])}


def loss(curve):
    """The mean over its sparsities."""
    return sum(point.loss.middle for point in curve.points) / len(curve.points)
