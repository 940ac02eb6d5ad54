"""is one version slower than another? a verdict for each kernel and case, to gate on

sparsemark compare base.jsonl head.jsonl          two runs; with five visits or more each (run --visits 5)
sparsemark compare base/ head/                    folders: every file in one is of the same version
sparsemark compare base.json head.json            what pytest --benchmark-json wrote
sparsemark compare base.jsonl head.jsonl --markdown comment.md --html page.html

Exit status: 0 nothing slower, 1 slower, broken or gone, 3 nothing to compare. In a GitHub workflow it also
annotates, and writes the step's summary.
"""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console

from suite.commands import load
from suite.comparing import github
from suite.comparing.comparison import INCOMPARABLE, Comparison, Gate, Incomparable, compare
from suite.comparing.markdown import markdown
from suite.comparing.page import page
from suite.comparing.side import side
from suite.comparing.terminal import show
from suite.comparing.verdicts import Rule
from suite.registry import Unusable

WIDTH = 160  # of a table, where there is no terminal to ask


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("base", type=Path, metavar="BASE", help="a results file, or a folder of them")
    parser.add_argument("head", type=Path, metavar="HEAD")
    parser.add_argument(
        "--across",
        action="store_true",
        help="compare even runs on unlike devices, as if that meant something",
    )
    declare_rule(parser)
    declare_outputs(parser)


def declare_rule(parser: argparse.ArgumentParser) -> None:
    """What a verdict takes, and what fails."""
    rule = Rule()
    parser.add_argument(
        "--effect",
        type=share,
        default=rule.effect,
        metavar="SHARE",
        help="the least change that counts; default 1%%",
    )
    parser.add_argument(
        "--same",
        type=share,
        default=rule.same,
        metavar="SHARE",
        help="what SAME rules out; default 10%%",
    )
    parser.add_argument("--allow-gone", action="store_true", help="a kernel or case that is gone is fine")
    parser.add_argument("--strict", action="store_true", help="what cannot be decided fails")


def declare_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="for a comment on a pull request")
    parser.add_argument("--html", type=Path, metavar="FILE", help="a page of its own")
    parser.add_argument("--json", type=Path, metavar="FILE", help="for a program; - is standard output")


def go(given: argparse.Namespace) -> int:
    load()
    try:
        found = compare(side(given.base), side(given.head), rule_of(given), gate_of(given), given.across)
    except Incomparable as why:
        print(f"sparsemark: {why}", file=sys.stderr)
        return INCOMPARABLE
    return put(found, given)


def rule_of(given: argparse.Namespace) -> Rule:
    if given.effect >= given.same:
        raise Unusable(f"--effect {given.effect:.1%} must be below --same {given.same:.1%}.")
    return Rule(effect=given.effect, same=given.same)


def gate_of(given: argparse.Namespace) -> Gate:
    return Gate(given.allow_gone, given.strict)


def put(found: Comparison, given: argparse.Namespace) -> int:
    """Everywhere it was asked for; the exit status."""
    quiet = str(given.json) == "-"
    if quiet:
        print(json.dumps(found.told(), indent=2))
    else:
        screen = Console()
        with github.deaf():
            show(found, screen if screen.is_terminal else Console(width=WIDTH))
    made = (
        (given.markdown, lambda: markdown(found)),
        (given.html, lambda: page(found)),
        (None if quiet else given.json, lambda: json.dumps(found.told(), indent=2) + "\n"),
    )
    for file, make in made:
        if file is not None:
            keep(file, make())
    github.tell(markdown(found), github.annotations(found), quiet)
    return found.status


def keep(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as failed:
        raise Unusable(f"{file} cannot be written: {failed.strerror}.") from None


def share(text: str) -> float:
    """A share of "1%" or "0.01"."""
    try:
        made = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        made = 0.0
    if not 0 < made < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share; write 2% or 0.02")
    return made
