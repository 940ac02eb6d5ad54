"""is this a fit results file? every fault by file and line"""

import argparse
import sys
from pathlib import Path

from suite.record import read
from suite.registry import Unusable


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="+", type=Path)


def go(given: argparse.Namespace) -> int:
    bad = 0
    for file in given.file:
        if not file.is_file():
            raise Unusable(f"no file {file}.")
        found = read(file)
        for fault in found.faults:
            print(fault)
        if found.torn:
            print(
                f"{file}: the last line is torn, as a killed run leaves it; --resume drops it",
                file=sys.stderr,
            )
        bad += len(found.faults)
        print(f"{file}: {len(found.lines)} lines, {len(found.faults)} faults")
    return 1 if bad else 0
