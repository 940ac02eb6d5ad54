"""is this a fit results file? every fault by file and line"""

import argparse
import json
import sys
from pathlib import Path

from suite.record import Recorded, read
from suite.registry import Unusable


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="+", type=Path)
    parser.add_argument("--json", action="store_true", help="for a program")


def go(given: argparse.Namespace) -> int:
    for file in given.file:
        if not file.is_file():
            raise Unusable(f"no file {file}. Name results files.")
    found = [read(file) for file in given.file]
    if given.json:
        print(json.dumps([about(one) for one in found], indent=2))
    else:
        for one in found:
            show(one)
    return 1 if any(one.faults for one in found) else 0


def about(one: Recorded) -> dict:
    """A file and its faults, for a program."""
    faults = [{"line": fault.line, "says": fault.says} for fault in one.faults]
    return {"file": str(one.file), "lines": len(one.lines), "torn": one.torn, "faults": faults}


def show(one: Recorded) -> None:
    """A file and its faults, for a reader."""
    for fault in one.faults:
        print(fault)
    if one.torn:
        print(
            f"{one.file}: the last line is torn, as a killed run leaves it; --resume drops it",
            file=sys.stderr,
        )
    print(f"{one.file}: {len(one.lines)} lines, {len(one.faults)} faults")
