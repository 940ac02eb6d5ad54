"""pareto: accuracy against the speed-up that is real: models studied, and timed by layers or as a whole."""

from suite.reading import score_figures
from suite.reading.end_to_end import alone, timed
from suite.reading.frame import tidy
from suite.reading.joined import front, whole_of
from suite.reading.scores import named
from suite.report import page_of, report

TRAINED = {"none": "nothing trained", "mask": "masks trained", "weights": "weights trained"}


@report
def pareto(view):
    """What accuracy is left at which measured speed-up of a model's layers?"""
    models = tidy(view.recorded, "end_to_end")
    sections = [
        section(f"p{number}{place or ''}", study, device, view, models)
        for number, study in enumerate(view.studies)
        for place, device in enumerate(places(study, view, models))
    ]
    shown = {(one["name"], one["device"]) for one in sections if one["whole"]}
    sections += unstudied(view, models, shown)
    timed, untimed = [], []
    for one in sections:
        (timed if one["points"] or one["whole"] else untimed).append(one)
    if sections:
        yield "pareto", {"sections": timed, "untimed": untimed}


def unstudied(view, models, shown):
    """Models timed as a whole where no study is of them: what accuracy is left is not known."""
    for number, (pair, whole) in enumerate(alone(models, view.frame).items()):
        if pair not in shown:
            about = {"id": f"w{number}", "name": pair[0], "device": pair[1], "studied": None}
            yield about | {"whole": whole, "points": []}


def places(study, view, models):
    """The study's own device, and others where its models, or all of their layers, were timed."""
    others = [one for one in view.places(study) if one != study.device]
    return [study.device, *(one for one in others if any(found(study, one, view, models)))]


def found(study, device, view, models):
    """(models by their layers, models timed as a whole) on a device."""
    here = view.measured.get(device)
    return list(joined(study, here)), timed(models, view.frame, study.task, device, study, here)


def section(id, study, device, view, models):
    """One task on one device: every model whose layers were all timed, or that was timed itself."""
    points, whole = found(study, device, view, models)
    higher = study.any.better == "higher"
    best = front([(one["gain"], one["value"].middle * (1 if higher else -1)) for one in points])
    for one, on_it in zip(points, best, strict=True):
        one["front"] = on_it
    pruned = [one for one in points if not (one["control"] or one["dense"])]
    return {
        "id": id,
        "name": study.task,
        "device": device,
        "studied": study.device,
        "whole": whole,
        "page": page_of("accuracy", named(study, view.studies)),
        "toy": study.any.toy,
        "metric": study.metric,
        "dense": study.dense_value,
        "batch": points[0]["joined"].batch if points else None,
        "fewest": next((one["fewest"].batch for one in points if one["fewest"]), None),
        "points": sorted(points, key=lambda one: (not one["front"], -one["gain"])),
        "unmetered": unmetered(points),
        "pruned": len(pruned),
        "faster": sum(one["gain"] > 1 for one in pruned),
        "figure": score_figures.front(points, study.dense_value, study.metric) if points else None,
    }


def unmetered(points):
    """Why models have no joules beside them, each reason once."""
    return list(dict.fromkeys(one["joined"].unmetered for one in points if one["joined"].unmetered))


def joined(study, measured):
    """Each point of each curve with what its layers take: those of the first seed stand for all."""
    for curve in study.curves if measured else ():
        for point in curve.points:
            score = next(iter(point.scores.values()))
            whole = whole_of(study, score)
            if not score.layers or whole is None:
                continue
            batches = measured.batches(score, whole)
            found = measured.of(score, batches[-1], whole) if batches else None
            if found:
                fewest = measured.of(score, batches[0], whole)
                yield {
                    "method": curve.method,
                    "control": curve.control,
                    "dense": score.execution == "dense",
                    "training": TRAINED[curve.training],
                    "pattern": point.pattern,
                    "sparsity": point.sparsity,
                    "value": point.value,
                    "loss": point.loss,
                    "joined": found,
                    "gain": found.seconds.ratio,
                    "fewest": fewest if fewest and fewest.batch < found.batch else None,
                    "own": sum("data" in layer for layer in score.layers),
                    "efficiency": found.seconds.ratio * (1 - point.sparsity) if alike(score, whole) else None,
                }


def alike(score, whole):
    """Whether a model has the dense one's layers."""
    return [shape_of(one) for one in score.layers] == [shape_of(one) for one in whole.layers]


def shape_of(layer):
    """Of its weight."""
    return layer["m"], layer["k"]
