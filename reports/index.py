"""index: the first screen. Does sparsity pay here, where, and can the numbers be trusted?"""

from collections import Counter, defaultdict

from suite.reading import batch, routing
from suite.reading.answers import BELOW, FIRST, called, causes, place, unmeasured
from suite.reading.bits import layers
from suite.reading.end_to_end import alone
from suite.reading.frame import tidy
from suite.reading.iso import met
from suite.reading.mixtures import sweeps
from suite.reading.realised import realised
from suite.reading.scores import named as called_so
from suite.reading.scores import told
from suite.reading.structure import varied
from suite.report import page_of, report

FAULTS = 20  # of a file, told on the page; `sparsemark validate` tells all


@report
def index(view):
    """Per pattern and regime: is sparse faster, from where on, and can the numbers be trusted?"""
    frame = view.frame
    timed = frame[frame["visits"] > 0]
    shown = view.answers if frame["device"].nunique() == 1 else first_of(view.answers)
    return {
        "devices": devices(view),
        "tables": tables(shown),
        "elsewhere": len(shown) < len(view.answers),
        "below": BELOW,
        "wins": sum(one.verdict is True for one in view.answers),
        "cells": len(view.answers),
        "runs": [run(*one) for one in zip(view.recorded, view.states, strict=True)],
        "not_run": not_run(view),
        "rows": len(frame),
        "visits": int(frame["visits"].max()) if len(frame) else 0,
        "timed": len(timed),
        "outcomes": Counter(frame["outcome"]).most_common(),
        "superseded": frame.attrs["superseded"],
        "disturbed": int((timed["disturbed"] != "").sum()),
        "disturbances": causes(timed).most_common(),
        "above": int(timed["above_bound"].sum()),
        "one_sample": int(timed["one_sample"].sum()),
        "old": int(frame["old"].sum()),
        "agreements": view.agreements,
        "workloads": workloads(view),
        "kernels": sorted(frame["kernel"].unique()),
        "studies": studies(view),
        "iso": any(sweeps(one) or met(one, view.measured.get(one.device)) for one in view.studies),
        "whole": bool(alone(tidy(view.recorded, "end_to_end"), frame)),
        "turned": any("cache used" in line.quality for row in view.rows for line in row.timed.values()),
        "selected": any(row.first.selector for row in view.rows),
        "limits": len(view.limits.dropna(subset=["bound", "sparsity"])) > 0,
        "structured": len(varied(frame)) > 0,
        "batched": len(batch.batches(frame, view.rows)) > 0,
        "quantized": bool(layers(view.drawn[1])),
        "papers": bool(realised(view.drawn[0], view.ids)),
        "routed": len(routing.routed(frame, view.rows)) > 0,
    }


def first_of(answers):
    """One table of each device: the first op's, in float32 where there is that."""
    kept = {}
    for one in answers:
        kind = one.op, one.dtype, one.cache
        if one.op == FIRST or one.device not in kept:
            kept.setdefault(one.device, kind)
    return [one for one in answers if kept[one.device] == (one.op, one.dtype, one.cache)]


def studies(view):
    """Every task that was studied: what loses 1 % latest, of what trains nothing and of what trains."""
    found = []
    for one in view.studies:
        best = {}
        for curve in one.curves:
            if curve.line == "unstructured" and (at := curve.tolerates()):
                kind = "trained" if curve.training != "none" else "untrained"
                best[kind] = max(best.get(kind, (0.0, "", "")), (at.middle, curve.method, told(at, curve)))
        found.append(
            {
                "name": one.task,
                "page": page_of("accuracy", called_so(one, view.studies)),
                "toy": one.any.toy,
                "metric": one.metric,
                "dense": one.dense_value.middle,
                "methods": len({curve.method for curve in one.curves}),
                "seeds": one.seeds,
                "best": best,
            }
        )
    return found


def devices(view):
    """What each was called by its maker, and what makes another one alike."""
    known = {}
    for one in view.recorded:
        for key, about in (one.run.devices if one.run else {}).items():
            known[key] = {"key": key, "name": about.get("name", key), "facts": facts(about)}
    for key in view.frame["device"].unique():
        known.setdefault(key, {"key": key, "name": key, "facts": []})
    return list(known.values())


def not_run(view):
    """Kind of device -> how many kernels there are for it, where no file is of such a device."""
    headers = [one.run for one in view.recorded if one.run]
    here = {about.get("kind") for header in headers for about in header.devices.values()}
    counted = Counter()
    for header in headers:
        counted |= Counter(header.elsewhere)
    return {kind: number for kind, number in counted.items() if kind not in here}


def facts(about):
    """What of a fingerprint fits into a line."""
    told = {**about, **about.get("fingerprint", {})}
    return [
        name if value is True else f"{name.replace('_gib', ' (GiB)').replace('_', ' ')} {value}"
        for name, value in told.items()
        if name not in ("name", "model", "family", "kind")
        and isinstance(value, int | float | str)
        and value is not False
        and len(str(value)) <= 40
    ]


def tables(answers):
    """One for each device, op, dtype and cache state: families down, regimes across."""
    made = defaultdict(list)
    for one in answers:
        made[one.device, one.op, one.dtype, one.cache].append(one)
    return [
        {
            "device": device,
            "title": ", ".join((*called(op), dtype, f"{cache} cache")),
            "regimes": sorted({one.regime for one in cells}, key=place),
            "families": {
                family: {one.regime: one for one in cells if one.family == family}
                for family in dict.fromkeys(one.family for one in cells)
            },
            "unmeasured": unmeasured(cells),
        }
        for (device, op, dtype, cache), cells in made.items()
    ]


def run(one, state):
    """A file: what it was meant to hold, holds, and lost. Kernels on cases are counted, not their visits."""
    header = one.run
    present = len({(line.workload, line.case, line.entry) for line in one.results}) + len(one.scores)
    planned = header.planned if header else None
    return {
        "file": one.file.name,
        "state": state,
        "header": header,
        "present": present,
        "planned": planned,
        "left_out": None if planned is None else max(0, planned - present),
        "torn": one.torn,
        "faults": [f"line {fault.line}: {fault.says}" for fault in one.faults[:FAULTS]],
        "more_faults": max(0, len(one.faults) - FAULTS),
    }


def workloads(view):
    """A line for each, and what it says of each device."""
    found = defaultdict(lambda: defaultdict(list))
    for one in view.groups:
        found[one.workload][one.device].append(one)
    return [
        {
            "name": name,
            "page": page_of("workload", name),
            "cases": rows["case"].nunique(),
            "kernels": rows["kernel"].nunique(),
            "devices": {device: cell(curves) for device, curves in found[name].items()},
        }
        for name, rows in view.frame.groupby("workload", sort=False)
    ]


def cell(curves):
    verdicts = {one.verdict for one in curves if one.points}
    return {
        "curves": len(curves),
        "faster": sum(one.verdict is True for one in curves),
        "verdict": True if True in verdicts else False if verdicts == {False} else None,
    }
