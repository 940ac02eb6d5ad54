"""workloads, patterns, kernels and reports; for each kernel: runs here, or why not"""

import argparse
import json

from rich.console import Console

from suite.commands import load
from suite.cpu import Cpu
from suite.device import Device
from suite.kernel import KERNELS, Kernel
from suite.pattern import PATTERNS
from suite.registry import MISSING
from suite.report import REPORTS
from suite.workload import EXTENTS, WORKLOADS


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for a program")
    parser.add_argument(
        "--ids", action="store_true", help="papers, and the workloads and kernels that serve them"
    )
    parser.add_argument("--plugin", nargs="+", default=[], metavar="FILE", action="extend")


def go(given: argparse.Namespace) -> None:
    load(given.plugin)
    screen = Console()
    if given.ids:
        served = serving()
        if given.json:
            print(json.dumps(served, indent=2))
        else:
            for one, names in sorted(served.items()):
                screen.print(f"{one:<24} {', '.join(names)}", highlight=False)
        return
    about = everything(Cpu())
    if given.json:
        print(json.dumps(about, indent=2))
        return
    for kind, entries in about.items():
        screen.print(f"\n[bold]{kind}[/]")
        for name, entry in entries.items():
            line = entry.get("about", "").partition("\n")[0]
            screen.print(f"  {name:<26} {line}", highlight=False)
            if entry.get("runs") is False:
                screen.print(
                    f"  {'':<26} [yellow]not here:[/] {'; '.join(entry['why_not'])}", highlight=False
                )


def everything(device: Device) -> dict[str, dict[str, dict]]:
    """What the registry holds, by kind and name."""
    kernels = {name: describe(kernel, device) for name, kernel in sorted(KERNELS.items())}
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
        "reports": {name: {"about": one.about} for name, one in REPORTS.items()},
    }


def describe(kernel: Kernel, device: Device) -> dict:
    """A kernel's terms, and whether this machine meets those that no case changes."""
    missing = [f"needs {one}, which {device.name} lacks" for one in kernel.isa if one not in device.isa]
    if kernel.on != device.kind:
        missing.append(f"runs on {kernel.on}, and no such device is measured here")
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


def serving() -> dict[str, list[str]]:
    """Paper id -> what is registered for it."""
    served: dict[str, list[str]] = {}
    for kind, among in (("workload", WORKLOADS), ("kernel", KERNELS)):
        for name, one in among.items():
            for paper in one.ids:
                served.setdefault(paper, []).append(f"{kind} {name}")
    return served
