"""workloads, patterns, kernels, selectors, races, tasks, methods, reports; what runs here, or why not

sparsemark list --ids                             every paper, and what serves it: workloads, kernels, tests
sparsemark list --cases                           the ids of every workload's cases, for `run --case`
sparsemark list --cases nm --extent full          of one workload, at another extent
"""

import argparse
import ast
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from rich.console import Console

from suite import devices
from suite.commands import load
from suite.conformance import cases_for
from suite.device import Device
from suite.inputs import INPUTS
from suite.kernel import KERNELS, Kernel
from suite.method import KINDS, PARTS, methods
from suite.papers import papers
from suite.pattern import PATTERNS
from suite.race import RACES
from suite.registry import MISSING, pick
from suite.report import REPORTS
from suite.selector import SELECTORS
from suite.task import TASKS
from suite.workload import EXTENTS, WORKLOADS

TRIED = 32  # small cases by which `list` tells a reason of the machine from one of a case


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for a program")
    parser.add_argument(
        "--ids", action="store_true", help="papers, and the workloads and kernels that serve them"
    )
    parser.add_argument(
        "--cases",
        nargs="*",
        metavar="WORKLOAD",
        help="the ids of these workloads' cases; of all if none is named",
    )
    parser.add_argument("--extent", choices=EXTENTS, default="default", help="of --cases")
    parser.add_argument("--plugin", nargs="+", default=[], metavar="FILE", action="extend")


def go(given: argparse.Namespace) -> None:
    load(given.plugin)
    screen = Console()
    if given.ids:
        print_papers(given.json, screen)
        return
    if given.cases is not None:
        print_cases(given.cases, given.extent, given.json)
        return
    about = everything(devices.kinds())
    if given.json:
        print(json.dumps(about, indent=2))
        return
    for kind, entries in about.items():
        screen.print(f"\n[bold]{kind}[/]")
        for name, entry in entries.items():
            line = entry.get("about", "").partition("\n")[0]
            screen.print(f"  {name:<26} {line}", highlight=False, soft_wrap=True)
            if entry.get("runs") is False:
                why = "; ".join(entry["why_not"])
                screen.print(f"  {'':<26} [yellow]not here:[/] {why}", highlight=False, soft_wrap=True)


def print_cases(names: list[str], extent: str, as_json: bool) -> None:
    """Ids as they are taken by `run --case`: one a line, whole, whatever the terminal's width."""
    chosen = [pick("workload", name, WORKLOADS) for name in names] or list(WORKLOADS.values())
    ids = {one.name: [str(case) for case in one.cases(extent)] for one in chosen}
    print(json.dumps(ids, indent=2) if as_json else "\n".join(id for some in ids.values() for id in some))


def print_papers(as_json: bool, screen: Console) -> None:
    """Every paper of the table, and those only a plug-in knows, with what serves each."""
    known, served = papers(), serving()
    told = {id: known.get(id, {}) | {"serves": served.get(id, [])} for id in dict.fromkeys((*known, *served))}
    if as_json:
        print(json.dumps(told, indent=2))
        return
    for id, about in told.items():
        screen.print(f"{id:<22} {', '.join(about['serves']) or 'none'}", highlight=False, soft_wrap=True)
    print(f"{len(served)} of {len(told)} papers are served; --json adds title, claim and link of each")


def everything(here: Mapping[str, Device]) -> dict[str, dict[str, dict]]:
    """What the registry holds, by kind and name."""
    kernels = {name: describe(kernel, here.get(kernel.on)) for name, kernel in sorted(KERNELS.items())}
    for name, library in sorted(MISSING.items()):
        why = [f"needs {library}, which is not installed: pip install {library}"]
        kernels[name] = {"about": "", "runs": False, "why_not": why}
    return {
        "workloads": {
            name: {
                "about": one.about,
                "version": one.version,
                "cases": {extent: len(list(one.cases(extent))) for extent in EXTENTS},
                "ids": list(one.ids),
            }
            for name, one in WORKLOADS.items()
        },
        "patterns": {
            spelling: {"about": (one.__doc__ or "").strip().partition("\n")[0], "family": one.family}
            for spelling, one in sorted(PATTERNS.items())
        },
        "kernels": kernels,
        "selectors": {
            name: {"about": one.about, "ops": list(one.ops), "control": one.control}
            for name, one in sorted(SELECTORS.items())
        },
        "inputs": {name: {"about": one.about, "ops": list(one.ops)} for name, one in sorted(INPUTS.items())},
        "races": {name: {"about": one.about} for name, one in RACES.items()},
        "tasks": {
            name: {
                "about": one.about,
                "version": one.version,
                "protocol": one.protocol,
                "metric": one.metric,
                "toy": one.toy,
                "ids": list(one.ids),
            }
            for name, one in TASKS.items()
        },
        "parts of methods": {
            name: {"about": f"{one.kind}: {one.about}", "kind": one.kind, "ids": list(one.ids)}
            for name, one in sorted(PARTS.items(), key=lambda named: KINDS.index(named[1].kind))
        },
        "methods": {
            one.name: {"about": "", "training": one.training, "control": one.control} for one in methods()
        },
        "reports": {name: {"about": one.about} for name, one in REPORTS.items()},
    }


def describe(kernel: Kernel, device: Device | None) -> dict:
    """A kernel's terms, and whether this machine meets those that no case changes."""
    if device is None:
        missing = [f"runs on {kernel.on}, and there is no such device here"]
    else:
        lacking = [f"needs {one}, which {device.name} lacks" for one in kernel.isa if one not in device.isa]
        missing = always_refused(kernel, device) or lacking
    return {
        "about": kernel.about,
        "op": kernel.op,
        "on": kernel.on,
        "dtypes": list(kernel.dtypes),
        "patterns": [one.family for one in kernel.patterns] or ["any"],
        "dense": kernel.dense,
        "ids": list(kernel.ids),
        "runs": not missing,
        "why_not": missing,
    }


def always_refused(kernel: Kernel, device: Device) -> list[str]:
    """The reasons that hold for every small case of a kernel: those of the machine, not of a case."""
    try:
        said = [kernel.refusals(trial.case, device) for trial in islice(cases_for(kernel), TRIED)]
    except Exception:  # a stranger's terms may fail in any way; `sparsemark check` says how
        return []
    return [reason for reason in said[0] if all(reason in one for one in said)] if said else []


def serving() -> dict[str, list[str]]:
    """Paper id -> what there is for it: workloads, kernels, and in a checkout the tests of its invariants."""
    served: dict[str, list[str]] = {}
    kinds = (("workload", WORKLOADS), ("kernel", KERNELS), ("selector", SELECTORS), ("task", TASKS))
    for kind, among in kinds:
        for name, one in among.items():
            for paper in one.ids:
                served.setdefault(paper, []).append(f"{kind} {name}")
    for part in PARTS.values():
        for paper in part.ids:
            served.setdefault(paper, []).append(f"{part.kind} {part.name}")
    for paper, test in tests():
        served.setdefault(paper, []).append(f"test {test}")
    return served


def tests() -> Iterator[tuple[str, str]]:
    """(paper, test) of each test or file of tests marked `pytest.mark.paper(id, ...)`; a wheel has none."""
    root = Path(__file__).parents[2]
    files = sorted((root / "tests").glob("test_*.py")) if (root / "pyproject.toml").is_file() else []
    for file in files:
        module = ast.parse(file.read_text(encoding="utf-8"))
        # A mark that several tests bear may have a name.
        assigned = [node for node in module.body if isinstance(node, ast.Assign)]
        named = {ast.unparse(node.targets[0]): node.value for node in assigned}
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                marks, name = node.decorator_list, f"{file.stem}.{node.name}"
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
                marks, name = [*ast.walk(node.value)], file.stem
            else:
                continue
            for mark in (named.get(ast.unparse(one), one) for one in marks):
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.paper":
                    yield from ((ast.literal_eval(paper), name) for paper in mark.args)
