"""accuracy: a page for each task: what sparsity costs, by every method, and what is known of them."""

from suite.reading import score_figures
from suite.reading.orderings import orderings
from suite.reading.scores import beaten, named, told
from suite.reading.spared import laws
from suite.reading.units import percent
from suite.reading.zeros import counted
from suite.report import page_of, report
from suite.studying.checkpoints import AT_RANDOM

TRAINED = {"none": "Nothing trained", "mask": "Masks trained", "weights": "Weights trained"}
LEAD = 8  # methods a figure can tell apart
TYPICAL = 0.8  # the sparsity at which other figures than the metric are shown, or the nearest there is
SIDE_BY_SIDE = (
    *("agreement", "kl", "worst class drop", "calibration error", "noisy accuracy"),
    *("noisy bits per byte", "noisy perplexity", "worst part rise", "parts within 5%"),
    *("update sparsity", "update rank"),
    *("weights read", "bytes corrected", "neurons spared"),
    *("load imbalance", "load entropy", "choices dropped"),
)


@report
def accuracy(view):
    """What does sparsity cost in accuracy, by method, allocation and pattern?"""
    for study in view.studies:
        classes = [part(study, training) for training in TRAINED]
        yield (
            page_of("accuracy", named(study, view.studies)),
            {
                "study": study,
                "name": study.task,
                "toy": study.any.toy,
                "dense": study.dense_value,
                "seeds": study.seeds,
                "classes": [one for one in classes if one],
                "failures": failures(study),
                "orderings": orderings([study]),
                "laws": laws(study),
                "zeros": list(counted(scores(study))),
            },
        )


def part(study, training):
    """Methods that train the same thing, pattern by pattern: others rank apart.

    The control of a checkpoint stands where the checkpoint does.
    """
    place = {one.method: one.training for one in study.curves}
    place |= {f"{name}{AT_RANDOM}": there for name, there in place.items()}
    mine = [one for one in study.curves if place[one.method] == training]
    lines = dict.fromkeys(one.line for one in sorted(mine, key=lambda one: one.line != "unstructured"))
    if not mine:
        return None
    return {
        "id": training,
        "title": TRAINED[training],
        "lines": [
            line(study, training, at, name, [one for one in mine if one.line == name])
            for at, name in enumerate(lines)
        ],
    }


def line(study, training, at, name, curves):
    """One pattern: a figure, and methods by the sparsity they tolerate."""
    tolerated = {one.method: one.tolerates() for one in curves}
    ordered = sorted(curves, key=lambda one: standing(one, tolerated[one.method]), reverse=True)
    masked = sorted(curves, key=lambda one: one.first.execution != "dense")  # smaller ones are near it only
    patterns = {point.pattern: point.asked for one in masked for point in one.points}
    columns = sorted(patterns, key=lambda pattern: patterns[pattern])
    typical = min(columns, key=lambda pattern: abs(patterns[pattern] - TYPICAL))
    lead = leaders(ordered)
    return {
        "id": f"{training}-{at}",
        "title": name,
        "figure": score_figures.against_sparsity(curves, study.dense_value, study.metric, lead),
        "loads": against_loads(study, ordered),
        "columns": [percent(patterns[pattern]) + " %" for pattern in columns],
        "rows": [row(one, tolerated[one.method], columns, best_controls(curves, columns)) for one in ordered],
        "typical": percent(patterns[typical]) + " %",
        "beside": beside(ordered, typical),
        "shown": [name for name in SIDE_BY_SIDE if any(name in one.first.quality for one in curves)],
    }


def scores(study):
    """All of them."""
    return [one for curve in study.curves for point in curve.points for one in point.scores.values()]


def against_loads(study, ordered):
    """A figure of mixtures of experts by how uneven their loads are; nothing where there are none."""
    mixtures = [one for one in ordered if any(map(imbalance, one.points))]
    says, about = "load of the busiest expert over the mean", (study.dense_value, study.metric)
    return mixtures and score_figures.against_cost(
        mixtures, *about, imbalance, says, leaders(mixtures), of="the mean load", base=2
    )


def imbalance(point):
    """The load of the busiest expert over the mean; None where it is not known."""
    found = point.quality("load imbalance")
    return found.middle if found and found.middle >= 1 else None


def standing(curve, tolerated):
    """By the sparsity it tolerates; of those that tolerate none, or all, by what is left on the mean."""
    lost = sum(one.loss.middle for one in curve.points) / len(curve.points)
    if curve.unbroken:  # what was asked, not what came of it
        return curve.points[-1].asked, -lost
    return (tolerated.middle if tolerated else 0.0, -lost)


def leaders(ordered):
    """Methods a figure follows: the best ones, and the best control."""
    controls = [one.method for one in ordered if one.control][:1]
    best = [one.method for one in ordered if one.method not in controls][: LEAD - len(controls)]
    return {name: at for at, name in enumerate([*best, *controls])}


def best_controls(curves, columns):
    """Pattern -> the control that loses least there."""
    found = {}
    for pattern in columns:
        there = [
            (point.loss.middle, one)
            for one in curves
            if one.control
            for point in one.points
            if point.pattern == pattern
        ]
        if there:
            found[pattern] = min(there, key=lambda pair: pair[0])[1]
    return found


def row(curve, tolerated, columns, controls):
    """A method's line of the table."""
    points = {point.pattern: point for point in curve.points}
    beats = [
        says
        for pattern, control in controls.items()
        if pattern in points and not curve.control
        for point, says in beaten(curve, control)
        if point.pattern == pattern
    ]
    return {
        "method": curve.method,
        "control": curve.control,
        "tolerates": told(tolerated, curve),
        "sure": curve.kept.sure,
        "knee": curve.knee,
        "knees": ", ".join(sorted({"none" if at is None else percent(at) for at in curve.knees})),
        "values": [points[pattern].value if pattern in points else None for pattern in columns],
        "beats": f"at {sum(one is True for one in beats)} of {len(beats)}" if beats else "",
    }


def beside(ordered, typical):
    """Other figures of the models at one sparsity, and what their making took."""
    found = []
    for one in ordered:
        point = next((point for point in one.points if point.pattern == typical), None)
        if point is None:
            continue
        scores = list(point.scores.values())
        first = scores[0]
        found.append(
            {
                "method": one.method,
                "value": point.value,
                "quality": {name: point.quality(name) for name in SIDE_BY_SIDE},
                "train_flops": first.train_flops,
                "search_flops": first.search_flops,
                "tuning": first.tuning_runs,
                "bytes": first.bytes,
                "seconds": sum(score.seconds or 0.0 for score in scores) / len(scores),
            }
        )
    return found


def failures(study):
    """What came to nothing, each reason once."""
    said = {}
    for one in study.failures:
        note = one.note or "no dense model of its seed to hold it against"
        said.setdefault((one.method, one.outcome, note), []).append(one.pattern)
    return [
        {"method": method, "outcome": outcome, "note": note, "patterns": sorted(set(patterns))}
        for (method, outcome, note), patterns in said.items()
    ]
