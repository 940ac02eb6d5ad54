"""what is here: cores, caches, measured ceilings, meters, and what is missing

For each thing that cannot be measured: the reason, and the command that grants it.

sparsemark devices --check                        our timers beside torch's and Triton's, on the same calls
"""

import argparse
import json
from typing import Any

from rich.console import Console

from suite import devices, selftest
from suite.commands import print_cautions
from suite.device import Device
from suite.reading.units import seconds
from suite.registry import Unusable

LOOK = 2.0  # seconds of measuring a device's ceilings


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for a program")
    parser.add_argument("--threads", type=int, metavar="N")
    parser.add_argument("--device", metavar="cpu|cuda:N|all", help="default: all")
    parser.add_argument("--check", action="store_true", help="compare our timers with others")


def go(given: argparse.Namespace) -> None:
    found, absent = here(given.device, given.threads)
    about = [tell(one, given.check) for one in found]
    if given.json:
        print(json.dumps({"devices": about, "unusable": absent or None}, indent=2))
        return
    screen = Console()
    for one, said in zip(found, about, strict=True):
        show(one, said, screen)
    if absent:
        screen.print(f"[yellow]![/] {absent}", highlight=False)


def here(asked: str | None, threads: int | None) -> tuple[list[Device], str]:
    """The devices asked for; without a wish all usable ones, and why others are not."""
    try:
        return devices.find(asked or devices.ALL, threads), ""
    except Unusable as unusable:
        if asked:
            raise
        return devices.find(devices.CPU, threads), str(unusable)


def tell(device: Device, check: bool) -> dict[str, Any]:
    """Everything there is to say of a device. This process measures, so it is confined to each in turn."""
    device.confine()
    reached = device.ceilings(LOOK)
    about = {
        "kind": device.kind,
        "device": device.spec,
        "key": device.key,
        "name": device.name,
        "threads": device.threads,
        "isa": sorted(device.isa),
        "memory": device.memory,
        "meter": device.meter.source if device.meter else None,
        "no_meter": device.no_meter or None,
        "ceilings": {"flops": reached.flops, "bandwidth": reached.bandwidth},
        "cautions": device.cautions(),
        **device.fingerprint(),
    }
    if check:
        about["check"] = [
            {
                "call": one.call,
                "timer": one.timer,
                "seconds": one.ours,
                "other": one.other,
                "other_seconds": one.theirs,
                "ratio": one.ratio,
                "beyond": one.beyond,
                "why": one.why or None,
            }
            for one in selftest.comparisons(device)
        ]
    return about


def show(device: Device, about: dict[str, Any], screen: Console) -> None:
    """One device, for a reader."""
    screen.print(f"[bold]{device.name}[/]  ({device.key}, --device {device.spec})", highlight=False)
    for name, value in device.fingerprint().items():
        shown = " ".join(map(str, value)) if isinstance(value, list | tuple) else value
        screen.print(f"  {name:<16} {shown}", highlight=False, soft_wrap=True)
    screen.print(f"  {'threads':<16} {device.threads}", highlight=False)
    for dtype, flops in about["ceilings"]["flops"].items():
        screen.print(f"  {dtype:<16} {flops / 1e9:,.0f} GFLOP/s measured", highlight=False)
    for level, rate in about["ceilings"]["bandwidth"].items():
        screen.print(f"  {level:<16} {rate / 1e9:,.1f} GB/s measured", highlight=False)
    screen.print(f"  {'energy':<16} {about['meter'] or about['no_meter']}", highlight=False)
    for one in about.get("check", ()):
        screen.print(f"  {one['call']:<16} {compared(one)}", highlight=False)
    print_cautions(device, screen)


def compared(one: dict[str, Any]) -> str:
    """Our time of a call beside another timer's."""
    ours = f"{seconds(one['seconds'])} ({one['timer']})"
    if one["ratio"] is None:
        return f"{ours}; {one['other']} is not here: {one['why']}"
    said = f"{ours}, {one['ratio']:.3f} of {one['other']}'s {seconds(one['other_seconds'])}"
    return f"{said}; launching costs {seconds(one['beyond'])}" if "graph" in one["other"] else said
