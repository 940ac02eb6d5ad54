"""Commands: one file each, with `declare(parser)` and `go(given)`. What several of them do is here."""

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from suite.device import Device
from suite.op import discover_parts
from suite.registry import discover


def load(plugins: Iterable[str] = ()) -> None:
    """Find every op, pattern, kernel, workload and report."""
    discover_parts()
    discover([Path(plugin) for plugin in plugins])


def print_cautions(device: Device, screen: Console) -> None:
    """What about this machine will be in the numbers."""
    for caution in device.cautions():
        screen.print(f"  [yellow]![/] {caution}", highlight=False)
