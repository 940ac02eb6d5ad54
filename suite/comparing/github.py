"""GitHub: annotations and the step's summary, where a workflow runs this.

Annotations are commands in what is printed: `::error title=...::message`.
"""

import os
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from suite.comparing import words
from suite.comparing.comparison import Comparison
from suite.comparing.verdicts import AMBIGUOUS

MOST = 10  # annotations of a kind that a step shows


def tell(
    summary: str, annotations: Iterable[str], quiet: bool, environment: Mapping[str, str] = os.environ
) -> None:
    """To the workflow that this runs in; to nobody where there is none. quiet: standard output is taken."""
    if file := environment.get("GITHUB_STEP_SUMMARY"):
        with Path(file).open("a", encoding="utf-8") as page:
            page.write(summary)
    if environment.get("GITHUB_ACTIONS") == "true":
        for line in annotations:
            print(line, flush=True, file=sys.stderr if quiet else sys.stdout)


@contextmanager
def deaf(environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """While this lasts nothing that is printed is a command: kernels and builds say what they like."""
    if environment.get("GITHUB_ACTIONS") != "true":
        yield
        return
    token = secrets.token_hex(16)
    print(f"::stop-commands::{token}", flush=True)
    try:
        yield
    finally:
        print(f"::{token}::", flush=True)


def annotations(found: Comparison) -> Iterator[str]:
    """An error for each change that stops, and a warning that counts what could not be decided."""
    stopping = found.stopping
    for one in stopping[:MOST]:
        says = f"{words.case(one)}: {words.change(one)}"
        note = words.remark(one)
        yield command("error", f"{one.verdict} {one.point.kernel}", f"{says}; {note}" if note else says)
    if len(stopping) > MOST:
        yield command("error", "sparsemark", f"and {len(stopping) - MOST} more")
    if undecided := words.of(found, AMBIGUOUS):
        watched = words.watching(undecided)
        yield command("warning", f"{len(undecided)} ambiguous", watched or undecided[0].why)


def command(kind: str, title: str, says: str) -> str:
    """A workflow command; what would end its parts is escaped."""
    return f"::{kind} title={property_of(title)}::{data_of(says)}"


def data_of(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def property_of(text: str) -> str:
    return data_of(text).replace(":", "%3A").replace(",", "%2C")
