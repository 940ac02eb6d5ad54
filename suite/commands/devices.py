"""what is here: cores, caches, measured ceilings, meters, and what is missing

For each thing that cannot be measured: the reason, and the command that grants it.
"""

import argparse
import json

from rich.console import Console

from suite.commands import print_cautions
from suite.cpu.device import Cpu


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for a program")
    parser.add_argument("--threads", type=int, metavar="N")


def go(given: argparse.Namespace) -> None:
    device = Cpu(threads=given.threads)
    device.pin()
    reached = device.ceilings(2.0)
    if given.json:
        about = {
            "kind": device.kind,
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
        print(json.dumps(about, indent=2))
        return
    screen = Console()
    screen.print(f"[bold]{device.name}[/]  ({device.key})", highlight=False)
    for name, value in device.fingerprint().items():
        shown = " ".join(map(str, value)) if isinstance(value, list | tuple) else value
        screen.print(f"  {name:<12} {shown}", highlight=False, soft_wrap=True)
    screen.print(f"  {'threads':<12} {device.threads}", highlight=False)
    for dtype, flops in reached.flops.items():
        screen.print(f"  {dtype:<12} {flops / 1e9:,.0f} GFLOP/s measured", highlight=False)
    for level, rate in reached.bandwidth.items():
        screen.print(f"  {level:<12} {rate / 1e9:,.1f} GB/s measured", highlight=False)
    screen.print(
        f"  {'energy':<12} {device.meter.source if device.meter else device.no_meter}", highlight=False
    )
    print_cautions(device, screen)
