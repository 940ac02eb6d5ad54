"""render results files as static pages that open from disk, without network"""

import argparse
from pathlib import Path

from suite import report
from suite.commands import load
from suite.registry import Unusable
from suite.run import newest


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        nargs="*",
        type=Path,
        help="results files; default: the latest run in results/, held against the one before it, and the "
        "latest study of that device",
    )
    parser.add_argument("--out", type=Path, default=Path("site"), metavar="DIR")


def go(given: argparse.Namespace) -> None:
    load()
    files, beside = given.file, []
    if not files:
        latest = newest(Path("results"))
        studied = newest(latest.parent if latest else Path("results"), study=True)
        files = [one for one in (latest, studied) if one]
        if not files:
            raise Unusable("there is no results file below results/. Measure first: sparsemark run.")
        beside = [before] if latest and (before := report.earlier(latest)) else []
    for file in files:
        if not file.is_file():
            raise Unusable(
                f"no results file {file}. Name one that exists, or leave it out for the latest run."
            )
    page = report.write(files, given.out, beside)
    print(f"{page.resolve()}")
