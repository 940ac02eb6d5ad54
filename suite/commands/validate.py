"""is this a fit results file? every fault by file and line"""

import argparse
import json
import sys
from pathlib import Path

from suite.record import read
from suite.registry import Unusable
from suite.submitting.check import Checked, check


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="+", type=Path)
    parser.add_argument(
        "--submission",
        action="store_true",
        help="is it fit to be published? header, ledger and times are held against what can be",
    )
    parser.add_argument("--json", action="store_true", help="for a program")


def go(given: argparse.Namespace) -> int:
    for file in given.file:
        if not file.is_file():
            raise Unusable(f"no file {file}. Name results files.")
    recorded = [read(file) for file in given.file]
    found = [check(one) if given.submission else Checked(one, one.faults, []) for one in recorded]
    if given.json:
        print(json.dumps([about(one) for one in found], indent=2))
    else:
        for one in found:
            show(one, one.recorded.file)
    return 1 if any(one.faults for one in found) else 0


def about(one: Checked) -> dict:
    """A file and its faults, for a program."""
    said = {
        name: [{"line": fault.line, "says": fault.says} for fault in faults]
        for name, faults in (("faults", one.faults), ("unusual", one.unusual))
    }
    recorded = one.recorded
    return {"file": str(recorded.file), "lines": len(recorded.lines), "torn": recorded.torn} | said


def show(one: Checked, file: Path) -> None:
    """A file and its faults, for a reader."""
    for fault in one.faults:
        print(f"{file}:{fault.line}: {fault.says}")
    for fault in one.unusual:
        print(f"{file}:{fault.line}: have a look: {fault.says}")
    if one.recorded.torn:
        print(
            f"{file}: the last line is torn, as a killed run leaves it; --resume drops it",
            file=sys.stderr,
        )
    print(f"{file}: {len(one.recorded.lines)} lines, {len(one.faults)} faults")
