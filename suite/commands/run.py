"""measure workloads; every line is on disk as soon as it exists

sparsemark run                                    every workload, default extent
sparsemark run nm --set n=64 --budget 2m          one workload, one number of columns, two minutes
sparsemark run unstructured --matrix *.mtx        your own matrices
sparsemark run moe --routes *.npz                 routes that were recorded, experts by tokens
sparsemark run attention kv --model DIR --corpus FILE          what a layer of your own model attends to
sparsemark run layers --model DIR --set n=1,256   the weights of your own model, on the zeros that it has
sparsemark run --case ID --kernels NAME           one case again, as a page's table quotes it
"""

import argparse
import json
import re
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from suite import devices, recordings, sources
from suite.commands import load, print_cautions
from suite.device import Device
from suite.plan import parse_axes, plan, without
from suite.profile import profile
from suite.reading import answers, end_to_end, frame
from suite.reading.opened import opened
from suite.recordings import Asked
from suite.registry import Unusable
from suite.run import Options, Running, default_file, newest, resume
from suite.run import Progress as Where
from suite.studying import hub
from suite.workload import EXTENTS

RESULTS = Path("results")


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workload", nargs="*", help="workloads to measure; all if none is named")
    parser.add_argument(
        "--kernels",
        default="*",
        metavar="GLOB",
        help="only kernels whose name matches; several with commas: mine,*dense*",
    )
    parser.add_argument(
        "--extent", choices=EXTENTS, default="default", help="seconds, minutes, or the full grids"
    )
    parser.add_argument("--budget", type=duration, metavar="TIME", help="stop after this long: 90s, 10m, 2h")
    parser.add_argument(
        "--visits", type=positive, metavar="N", help="passes over the cases, each in a fresh process"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: results/DEVICE/START.jsonl")
    parser.add_argument(
        "--resume", action="store_true", help="go on with FILE, or with the latest of this device"
    )
    parser.add_argument(
        "--case", nargs="+", default=[], metavar="ID", action="extend", help="these cases only"
    )
    parser.add_argument(
        "--profile", action="store_true", help="call one kernel in this process, for a profiler"
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="AXIS=VALUES", action="extend", dest="axes")
    parser.add_argument(
        "--matrix", nargs="+", default=[], metavar="FILE", action="extend", help="matrices to measure on"
    )
    parser.add_argument(
        "--routes",
        nargs="+",
        default=[],
        metavar="FILE",
        action="extend",
        help="recorded routes, a sparse matrix of experts by tokens, to measure mixtures of experts on",
    )
    parser.add_argument(
        "--plugin", nargs="+", default=[], metavar="FILE", action="extend", help="Python files to load"
    )
    parser.add_argument(
        "--device", metavar="cpu|cuda:N|all", help="where to measure; default: the first GPU, else the CPU"
    )
    parser.add_argument(
        "--model",
        metavar="DIR",
        help="a causal language model of transformers (or its name on the hub), or a task's, whose queries, "
        "keys and values stand in; "
        "without a corpus the weights of its layers",
    )
    parser.add_argument("--corpus", type=Path, metavar="FILE", help="the text that it reads")
    parser.add_argument(
        "--layer",
        type=natural,
        nargs="+",
        default=[],
        metavar="N",
        action="extend",
        help="layers of it, from 0 on; default: the middle one, of weights all",
    )
    parser.add_argument("--cache", choices=("cold", "hot"), default="cold", help="what a timed call finds")
    parser.add_argument("--threads", type=positive, metavar="N", help="default: one per performance core")
    parser.add_argument("--energy", choices=("off", "winners", "all"), default="winners")
    parser.add_argument("--json", action="store_true", help="the answers for a program, on standard output")
    parser.add_argument(
        "--limit", type=duration, default=60.0, metavar="TIME", help="longest step of a kernel"
    )


def go(given: argparse.Namespace) -> int:
    load(given.plugin)
    found = devices.find(given.device, given.threads)
    if len(found) > 1 and (given.out or given.profile):
        option = "--out" if given.out else "--profile"
        raise Unusable(f"{option} is for one device; --device {given.device} is {len(found)}.")
    for device in found:
        if status := measure(device, given):
            return status  # interrupted: that was meant for all of them
    return 0


def measure(device: Device, given: argparse.Namespace) -> int:
    """One device, one file."""
    axes, asked = parse_axes(given.axes), wanted(given)
    items = plan(
        given.workload,
        given.extent,
        kernels=given.kernels,
        axes=axes,
        matrices=given.matrix,
        routes=given.routes,
        cases=with_data(given.case, given.matrix + given.routes),
        device_kind=device.kind,
        device=device,
        asked=asked,
    )
    for axis, names in without(items, axes).items():
        if names:
            print(f"--set {axis}: {', '.join(names)} has no such axis and stays as it is.", file=sys.stderr)
    if given.profile:
        return profile(items, device, given.cache)
    file = given.out or (given.resume and newest(RESULTS / device.key)) or default_file(RESULTS, device)
    options = Options(
        extent=given.extent,
        visits=given.visits,
        cache=given.cache,
        budget=given.budget,
        limit=given.limit,
        energy=given.energy,
        plugins=tuple(str(Path(one).resolve()) for one in given.plugin),
        kernels=given.kernels,
        cases=tuple(given.case),
        axes=tuple(given.axes),
        asked=asked,
    )
    earlier = resume(file, device, options) if given.resume else []
    if not given.resume and file.exists():
        raise Unusable(f"--out {file} exists. Name another file, or add --resume to go on with it.")
    screen = Console(stderr=True)
    print_setting(device, len(items), options.passes, screen)
    for data in recordings.known():
        screen.print(f"  recorded: {data}", highlight=False)
    with bar(screen) as shown:
        task = shown.add_task("", total=len(items) * options.passes, note="")
        running = Running(
            items, device, options, file, lambda where: tell(shown, task, where, screen), earlier
        )
        try:
            running.go()
        except KeyboardInterrupt:
            print(
                f"\nInterrupted. What was measured is in {file}; --resume goes on with it.", file=sys.stderr
            )
            return 130
    recorded = [opened(file)]
    done = frame.tidy(recorded)
    if given.json:
        found = [asdict(one) for one in answers.answers(done)]
        print(json.dumps({"file": str(file), "rows": len(done), "answers": found}, indent=2))
        return 0
    Console().print(answers.table(answers.answers(done)))
    if models := end_to_end.in_a_line(end_to_end.alone(frame.tidy(recorded, "end_to_end"), done)):
        Console().print(f"Whole models, end to end: {models}", style="dim", highlight=False)
    print(f"{len(done)} results, each of a kernel on a case, in {file}")
    return 0


def print_setting(device: Device, cases: int, visits: int, screen: Console) -> None:
    """What is about to be measured on, and what will be in the numbers."""
    threads = f", {device.threads} threads" if device.kind == devices.CPU else ""
    screen.print(f"[bold]{device.name}[/]{threads}, {cases} cases x {visits} visits", highlight=False)
    print_cautions(device, screen)


def wanted(given: argparse.Namespace) -> Asked | None:
    """What of a model is to be recorded."""
    if given.model is None:
        if option := "--corpus" if given.corpus else "--layer" if given.layer else "":
            raise Unusable(f"{option} says something of a model. Name it with --model.")
        return None
    if option := "--matrix" if given.matrix else "--routes" if given.routes else "":
        raise Unusable(f"--model and {option} stand in for different operands. Name one of them.")
    return Asked(str(hub.folder(given.model)), given.corpus, tuple(given.layer))


def with_data(ids: list[str], matrices: list[str]) -> list[str]:
    """Case ids name their data; the files behind them are given by --matrix or --routes."""
    for text in matrices if ids else ():
        sources.add(text)
    return ids


def bar(screen: Console) -> Progress:
    """Redrawn only when a case is done, for a redraw takes time from what is being measured."""
    columns = (MofNCompleteColumn(), BarColumn(30), TextColumn("{task.fields[note]}"))
    return Progress(*columns, console=screen, auto_refresh=False, disable=not screen.is_terminal)


def tell(shown: Progress, task, where: Where, screen: Console) -> None:
    note = f"{where.left / 60:.1f} min left, visit {where.visit}: {where.case}"
    shown.update(task, completed=where.done, total=where.total, note=note)
    shown.refresh()
    if not screen.is_terminal and (where.done % 10 == 0 or where.done == where.total):
        print(f"{where.done}/{where.total}  {note}", file=sys.stderr, flush=True)


def duration(text: str) -> float:
    """Seconds of "90", "90s", "10m", "2h"."""
    found = re.fullmatch(r"([0-9.]+)([smh]?)", text)
    try:
        seconds = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]] if found else 0
    except ValueError:
        seconds = 0
    if not seconds:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 90s, 10m or 2h")
    return seconds


def positive(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)
