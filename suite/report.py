"""Report: a view from lines to pages: a function to a dict, and the template of the same name beside it.

    @report
    def index(view):
        \"\"\"One sentence for the list of reports.\"\"\"
        return {"answers": view.answers}

One that makes several pages yields (page name, dict) instead. Adding a report is adding the two files.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from suite import record
from suite.reading.agreement import Agreement, agreements
from suite.reading.answers import Answer, answers
from suite.reading.curves import Group, groups
from suite.reading.frame import tidy
from suite.reading.limits import limits
from suite.reading.svg import svg
from suite.reading.units import NOTHING, count, joules, percent, seconds, times
from suite.record import Recorded, Run
from suite.registry import Unusable, discover

Page = tuple[str, dict[str, Any]]

REPORTS: dict[str, "Report"] = {}


@dataclass(frozen=True)
class View:
    """What a report may look at: the files as they were read, and all that follows from them."""

    recorded: Sequence[Recorded]
    beside: Sequence[Recorded] = ()  # runs to hold these against: no number of theirs is shown

    @cached_property
    def frame(self) -> pd.DataFrame:
        return tidy(self.recorded)

    @cached_property
    def answers(self) -> list[Answer]:
        return answers(self.frame)

    @cached_property
    def groups(self) -> list[Group]:
        return groups(self.frame)

    @cached_property
    def limits(self) -> pd.DataFrame:
        return limits(self.recorded)

    @cached_property
    def agreements(self) -> list[Agreement]:
        return agreements([*self.beside, *self.recorded])


@dataclass(frozen=True)
class Report:
    """A named function from a View to what its template shows."""

    name: str
    about: str
    make: Callable[[View], dict[str, Any] | Iterable[Page]]
    template: Path

    def pages(self, view: View) -> Iterator[Page]:
        """(page name, what its template shows)."""
        made: Any = self.make(view)
        yield from [(self.name, made)] if isinstance(made, dict) else made

    def __str__(self) -> str:
        return self.name


def report(make: Callable[[View], dict[str, Any] | Iterable[Page]]) -> Report:
    """Register the decorated function as the report of its name."""
    name = make.__name__
    if name in REPORTS:
        raise ValueError(f"two reports are called {name!r}; rename one of the functions")
    template = Path(inspect.getfile(make)).with_name(f"{name}.html")
    REPORTS[name] = Report(name, inspect.getdoc(make) or "", make, template)
    return REPORTS[name]


def view_of(files: Sequence[Path | str], beside: Sequence[Path | str] = ()) -> View:
    """The View of results files."""
    if missing := [str(file) for file in (*files, *beside) if not Path(file).is_file()]:
        raise Unusable(f"no results file {missing[0]!r}. `sparsemark run` writes one.")
    return View(*([record.read(Path(file)) for file in some] for some in (files, beside)))


def earlier(file: Path) -> Path | None:
    """The newest run before this one in its folder that it can be held against."""
    latest = header_of(file)
    if latest is None or latest.commit is None:
        return None
    found = []
    for other in file.parent.glob("*.jsonl"):
        run = header_of(other)
        if run and run.started < latest.started and comparable(run) == comparable(latest):
            found.append((run.started, other))
    return max(found)[1] if found else None


def comparable(run: Run) -> tuple:
    """What two runs must share for their times to be the same, noise aside."""
    return run.schema, run.commit, sorted(run.devices), run.options.get("extent")


def header_of(file: Path) -> Run | None:
    """The first line of a results file; None where it is no header."""
    with file.open("rb") as lines:
        try:
            return msgspec.json.decode(lines.readline(), type=Run)
        except msgspec.DecodeError:  # a line of another kind included
            return None


def write(files: Sequence[Path | str], out: Path | str, beside: Sequence[Path | str] = ()) -> Path:
    """Write every report's pages into a folder, and say which is the first. They need nothing beside them.

    `beside` are runs that only feed the sentence on how far two runs agree.
    """
    discover(folders=("reports",))
    view, out = view_of(files, beside), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    made: set[Path] = set()
    for one in REPORTS.values():
        template = environment(one.template.parent).get_template(one.template.name)
        for page, shown in one.pages(view):
            file = out / f"{page}.html"
            if file in made:
                raise ValueError(f"two reports write {file.name}; rename one of the pages")
            file.write_text(template.render(shown), encoding="utf-8")
            made.add(file)
    return out / "index.html"


def page_of(workload: str) -> str:
    """The name of a workload's page: what a file and a link may safely be called."""
    return "workload-" + re.sub(r"[^A-Za-z0-9_-]+", "-", workload)


def environment(folder: Path) -> Environment:
    """Where templates are found: beside their report, then among the suite's own."""
    places = [folder, *import_module("suite.reports").__path__]
    made = Environment(
        loader=FileSystemLoader([str(place) for place in places]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["svg"] = lambda figure, name, says: Markup(svg(figure, name, says))  # svg escapes
    made.filters["unbroken"] = lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%")
    made.filters |= {one.__name__: known(one) for one in (seconds, joules, percent, times, count)}
    return made


def known(show: Callable[[float], str]) -> Callable[[float | None], str]:
    """The same words, and a dash for what was not measured."""
    return lambda value: NOTHING if value is None or pd.isna(value) else show(value)
