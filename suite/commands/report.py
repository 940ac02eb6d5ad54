"""render results files as static pages that open from disk, without network"""

import argparse
from pathlib import Path

from suite import report
from suite.commands import load
from suite.reading.figures import WIDTH
from suite.reading.printed import FORMATS, Prints
from suite.registry import Unusable
from suite.run import IMPORTED, newest


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        nargs="*",
        type=Path,
        help="results files; default: the latest run in results/, held against the one before it, the latest "
        "study of that device, and what was imported there",
    )
    parser.add_argument("--out", type=Path, default=Path("site"), metavar="DIR")
    parser.add_argument(
        "--figures",
        type=Path,
        metavar="DIR",
        help="each figure as a file too, with its data as .csv and as a LaTeX table",
    )
    parser.add_argument("--format", choices=FORMATS, help=f"of these figures; default: {FORMATS[0]}")
    parser.add_argument("--width", type=inches, metavar="INCHES", help=f"of these figures; default: {WIDTH}")


def go(given: argparse.Namespace) -> None:
    load()
    files, beside = given.file, []
    if not files:
        latest = newest(Path("results"))
        place = latest.parent if latest else Path("results")
        studied = newest(place, study=True)
        files = [*(one for one in (latest, studied) if one), *sorted(place.rglob(f"{IMPORTED}/*.jsonl"))]
        if not files:
            raise Unusable("there is no results file below results/. Measure first: sparsemark run.")
        beside = [before] if latest and (before := report.earlier(latest)) else []
    for file in files:
        if not file.is_file():
            raise Unusable(
                f"no results file {file}. Name one that exists, or leave it out for the latest run."
            )
    if (given.format or given.width) and not given.figures:
        raise Unusable(
            "--format and --width say something of figures. Name a folder for them with --figures."
        )
    if given.figures and given.figures.is_file():
        raise Unusable(f"--figures {given.figures} is a file. Name a folder.")
    prints = given.figures and Prints(given.figures, given.format or FORMATS[0], given.width or WIDTH)
    page = report.write(files, given.out, beside, prints)
    print(f"{page.resolve()}")


def inches(text: str) -> float:
    """A figure's width: no less than its letters need, no more than a poster."""
    try:
        width = float(text)
    except ValueError:
        width = 0.0
    if not 1 <= width <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no width; write 1 to 100 inches, such as 3.3")
    return width
