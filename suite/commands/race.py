"""how much faster our kernels are than their rivals, against what was set out to reach

sparsemark race                                   every race, five visits over at least two minutes
sparsemark race csr gemv --visits 9 --cap 0.5s    two of them, more precisely
sparsemark race matrices --matrix *.mtx           on matrices of your own
sparsemark race --read FILE                       how they stand by an earlier file

Nothing fails on a ratio. Matrices may also be those of the folder that SPARSEMARK_MATRICES names.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from suite import devices, sources
from suite.case import Case
from suite.commands import load
from suite.commands.run import RESULTS, bar, duration, positive, print_setting, tell
from suite.device import Device
from suite.kernel import KERNELS
from suite.race import EXTENT, RACES, Race, entries
from suite.reading.standings import SPREAD, VISITS, Goal, Side, Standings, standings
from suite.reading.units import percent, seconds
from suite.record import read
from suite.registry import Unusable, pick
from suite.run import Options, Running, default_file
from suite.sources import argument

WIDTH = 132  # of a table, where there is no terminal to ask
CAP = 0.1  # seconds of sampling a kernel gets in one visit

TOO_FEW = f": [yellow]too few to hold against a goal, which takes {VISITS} visits over {SPREAD:.0f} s[/]"


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("race", nargs="*", help="races to run; all if none is named")
    parser.add_argument("--visits", type=positive, default=VISITS, metavar="N")
    parser.add_argument(
        "--spread",
        type=duration,
        default=SPREAD,
        metavar="TIME",
        help="between the first visit and the last, at least",
    )
    parser.add_argument(
        "--cap", type=duration, default=CAP, metavar="TIME", help="sampling of one kernel in one visit"
    )
    parser.add_argument("--budget", type=duration, metavar="TIME", help="stop after this long: 90s, 10m, 2h")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: results/DEVICE/races/START.jsonl")
    parser.add_argument(
        "--read", type=Path, metavar="FILE", help="measure nothing: how it stands by this file"
    )
    parser.add_argument("--matrix", nargs="+", default=[], metavar="FILE", action="extend")
    parser.add_argument("--plugin", nargs="+", default=[], metavar="FILE", action="extend")
    parser.add_argument("--threads", type=positive, metavar="N", help="default: one per performance core")
    parser.add_argument(
        "--limit", type=duration, default=60.0, metavar="TIME", help="longest step of a kernel"
    )


def go(given: argparse.Namespace) -> int:
    load(given.plugin)
    races = [pick("race", name, RACES) for name in given.race] or list(RACES.values())
    file = given.read
    if file is None:
        device = devices.find_one(devices.CPU, given.threads)  # its rivals and goals are processors'
        file = given.out or default_file(RESULTS, device, "races")
        if file.exists():
            raise Unusable(f"--out {file} exists. Name another file, or --read it.")
        if not run(races, device, file, given):
            return 130
    elif not file.is_file():
        raise Unusable(f"--read {file}: there is no such file.")
    recorded = read(file)
    screen = Console()
    screen = screen if screen.is_terminal else Console(width=WIDTH)
    for one in races:
        found = standings(one, [recorded])
        for each in found:
            show(each, screen)
        if not found:
            screen.print(f"\n[bold]{one.name}[/]: none of it is in {file}.", highlight=False)
    return 0


def run(races: Sequence[Race], device: Device, file: Path, given: argparse.Namespace) -> bool:
    """Measure into the file, visits of all races interleaved. False: interrupted."""
    for text in given.matrix or folder():
        sources.add(text)
    items = entries(races, [one for one in KERNELS.values() if one.on == device.kind])
    if not items:
        raise Unusable("none of these races has a case here. Matrices are named with --matrix FILE.")
    options = Options(
        extent=EXTENT,
        visits=given.visits,
        spread=given.spread,
        cap=given.cap,
        cache="hot",
        budget=given.budget,
        limit=given.limit,
        energy="off",
        plugins=tuple(str(Path(one).resolve()) for one in given.plugin),
        races=tuple(one.name for one in races),
    )
    screen = Console(stderr=True)
    print_setting(device, len(items), given.visits, screen)
    with bar(screen) as shown:
        task = shown.add_task("", total=len(items) * options.passes, note="")
        try:
            Running(items, device, options, file, lambda where: tell(shown, task, where, screen)).go()
        except KeyboardInterrupt:
            print(f"\nInterrupted. What was measured is in {file}; --read shows it.", file=sys.stderr)
            return False
    print(f"{file}")
    return True


def folder() -> list[str]:
    """The Matrix Market files of the folder that the environment names, if it does."""
    named = os.environ.get("SPARSEMARK_MATRICES")
    return [str(file) for file in sorted(Path(named).glob("*.mtx"))] if named else []


def show(found: Standings, screen: Console) -> None:
    """A race as a table, and what it comes to."""
    run = sorted(found.run, key=lambda one: (one.heat.case.sizes, str(one.heat.case.pattern)))
    same = common([parts(one.heat.case) for one in run])
    longest = max(run, key=lambda one: (one.visits, one.spread))
    visits = f"{several(longest.visits, 'visit')} over {longest.spread:.0f} s"
    setting = ", ".join((*same, f"{found.cache} cache", several(found.threads, "thread"), found.device))
    screen.print(f"\n[bold]{found.race.name}[/]: {found.race.about}", highlight=False)
    screen.print(f"{setting}; {visits}{'' if longest.enough else TOO_FEW}", highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("case", "ours", "rival"):
        table.add_column(name, overflow="fold")
    for name in ("of its bound", "reached", "asked", ""):
        table.add_column(name, justify="right")
    for one in run:
        case = ", ".join(part for part in parts(one.heat.case) if part not in same)
        if longest.enough and not one.enough:
            case += f" ({several(one.visits, 'visit')} over {one.spread:.0f} s: too few)"
        sides = Text(case), named(one.own), named(one.rival), bounded(one.rival)
        for goal in one.goals:
            table.add_row(*sides, *told(goal))
            sides = ("",) * 4
    screen.print(table)
    screen.print(summary(found), highlight=False)


def several(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def parts(case: Case) -> list[str]:
    """A case in few words: its matrix or pattern, its sizes, its dtype."""
    shape = [f"{case['m']} x {case['k']}"] if {"m", "k"} <= case.extent.keys() else []
    sizes = [f"{name} {size}" for name, size in case.sizes if not shape or name not in "mk"]
    return [argument(case.data) if case.data else str(case.pattern), *shape, *sizes, case.dtype]


def common(cases: Sequence[Sequence[str]]) -> list[str]:
    """What all of them say, where there are several."""
    first, *others = cases
    return [part for part in first if others and all(part in one for one in others)]


def named(side: Side | None) -> str:
    return f"{side.kernel} {seconds(side.seconds)}" if side else "not measured"


def bounded(side: Side | None) -> str:
    return f"{percent(side.share, 0)} %" if side and side.share else "–"


def told(goal: Goal) -> tuple[str, str, str]:
    """What was reached, what is asked, and whether that is it."""
    say = {"setup": "{:.1f} s setup", "padding": "{:.2f}x padding"}.get(goal.what, "{:.2f}x")
    return (
        "–" if goal.reached is None else say.format(goal.reached),
        "" if goal.asked is None else ("at most " if goal.at_most else "") + say.format(goal.asked),
        {True: "[green]yes[/]", False: "[red]no[/]", None: ""}[goal.met],
    )


def summary(found: Standings) -> str:
    """How many points are reached, the geometric mean, and where dense is overtaken."""
    met = [goal.met for goal in found.goals]
    said = [f"{met.count(True)} of {len(met)} points reached"]
    if None in met:
        said[0] += f", {met.count(None)} not measured"
    if found.mean.reached is not None:
        mean, asked, verdict = told(found.mean)
        said.append(f"geometric mean {mean}" + (f", asked {asked}: {verdict}" if asked else ""))
    said += [f"{at}, faster than dense: {one.text}" for at, one in found.crossovers.items()]
    return "; ".join(said)
