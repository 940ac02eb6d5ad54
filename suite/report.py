"""Report: a view from lines to pages: a function to a dict, and the template of the same name beside it.

    @report
    def index(view):
        \"\"\"One sentence for the list of reports.\"\"\"
        return {"answers": view.answers}

One that makes several pages yields (page name, dict) instead, (name, Data) for what a page's script asks for,
and (name, Path) of a script that goes along as it is. Adding a report is adding the two files.
"""

import gc
import hashlib
import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup
from matplotlib.figure import Figure

from suite import record
from suite.reading.agreement import Agreement, agreements
from suite.reading.answers import Answer, answered
from suite.reading.bought import bought
from suite.reading.curves import Group, groups
from suite.reading.frame import current, grouped, tidy, usable
from suite.reading.joined import STUDIED, Measured, devices_of
from suite.reading.limits import limits
from suite.reading.opened import opened
from suite.reading.printed import Prints
from suite.reading.ranking import Slice, ranking
from suite.reading.row import Row
from suite.reading.scores import Study, studies
from suite.reading.state import State, states
from suite.reading.svg import svg
from suite.reading.units import NOTHING, amount, count, joules, percent, seconds, short, times
from suite.record import Recorded, Run
from suite.registry import Unusable, discover
from suite.selector import entries


@dataclass(frozen=True)
class Data:
    """What a page's script asks for: a file that assigns to one global. From disk it may read no other."""

    value: Any

    def script(self, name: str) -> str:
        """A line of JavaScript: `sparsemark` is an object of all data by name. It may hold Infinity."""
        told = json.dumps(self.value, separators=(",", ":"), ensure_ascii=False)
        return f"(globalThis.sparsemark ??= {{}})[{json.dumps(name)}] = {told};\n"


Page = tuple[str, dict[str, Any] | Data | Path]

DRAWN = 3  # devices of which figures are drawn: a page of thirty is of use to nobody, and takes minutes

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
    def rows(self) -> list[Row]:
        """The rows of the frame, in its order, with all the lines behind them."""
        return [row for rows in grouped(current(usable(self.recorded))).values() for row in rows]

    @cached_property
    def latest(self) -> list[str]:
        """The devices measured last: those of which figures are drawn."""
        began: dict[str, str] = {}
        for row in self.rows:
            began[row.first.device] = max(began.get(row.first.device, ""), row.first.started)
        return sorted(began, key=lambda device: began[device], reverse=True)[:DRAWN]

    @cached_property
    def drawn(self) -> tuple[pd.DataFrame, list[Row]]:
        """The frame and its rows, of those devices alone."""
        at = [number for number, row in enumerate(self.rows) if row.first.device in self.latest]
        return self.frame.iloc[at].reset_index(drop=True), [self.rows[number] for number in at]

    @cached_property
    def ids(self) -> dict[str, list[str]]:
        """Kernel -> the papers it serves, by its lines and by its file where that is here."""
        found = {name: set(one.ids) for name, one in entries().items()}
        for row in self.rows:
            found.setdefault(row.first.entry, set()).update(row.first.ids)
        return {name: sorted(ids) for name, ids in found.items()}

    @cached_property
    def answers(self) -> list[Answer]:
        return answered(self.groups, bought(self.studies, self.measured, self.places))

    @cached_property
    def ranking(self) -> list[Slice]:
        return ranking(self.recorded)

    @cached_property
    def groups(self) -> list[Group]:
        return groups(self.frame)

    @cached_property
    def limits(self) -> pd.DataFrame:
        return limits(self.recorded)

    @cached_property
    def studies(self) -> list[Study]:
        return studies(self.recorded)

    @cached_property
    def measured(self) -> dict[str, Measured]:
        """Device -> what its kernels took, for whoever joins models with them."""
        return {device: Measured(self.frame, device) for device in self.frame["device"].unique()}

    def places(self, study: Study) -> list[str]:
        """The devices whose kernels a study's models are put beside."""
        headers = [one.run.devices for one in self.recorded if one.run]
        kinds = {key: str(about.get("kind")) for devices in headers for key, about in devices.items()}
        return devices_of(study, self.studies, {one: kinds.get(one, STUDIED) for one in self.measured})

    @cached_property
    def states(self) -> list[State]:
        return states(self.recorded)

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
    return View(*([opened(file) for file in some] for some in (files, beside)))


def earlier(file: Path) -> Path | None:
    """The newest run before this one in its folder that it can be held against."""
    latest = record.header(file)
    if latest is None or latest.commit is None:
        return None
    found = []
    for other in file.parent.glob("*.jsonl"):
        run = record.header(other)
        if run and run.started < latest.started and comparable(run) == comparable(latest):
            found.append((run.started, other))
    return max(found)[1] if found else None


def comparable(run: Run) -> tuple:
    """What two runs must share for their times to be the same, noise aside."""
    return run.schema, run.commit, sorted(run.devices), run.options.get("extent")


def write(
    files: Sequence[Path | str],
    out: Path | str,
    beside: Sequence[Path | str] = (),
    prints: Prints | None = None,
) -> Path:
    """Write every report's pages into a folder, and say which is the first. They need nothing from elsewhere.

    `beside` are runs that only feed the sentence on how far two runs agree; `prints` is where the pages'
    figures go as files of their own.
    """
    view = view_of(files, beside)
    gc.freeze()  # lines stay to the end; looking through them for garbage takes a tenth of the time
    try:
        return render(view, Path(out), prints)
    finally:
        gc.unfreeze()


def render(view: View, out: Path, prints: Prints | None = None) -> Path:
    """The same, of files already read."""
    discover(folders=("reports",))
    out.mkdir(parents=True, exist_ok=True)
    made: set[Path] = set()
    for one in REPORTS.values():
        places = environment(
            one.template.parent, measured=len(view.frame) > 0, latest=view.latest, devices=len(view.measured)
        )
        template = places.get_template(one.template.name)
        for page, shown in one.pages(view):
            file = out / f"{page}.{'html' if isinstance(shown, dict) else 'js'}"
            if file in made:
                raise ValueError(f"two reports write {file.name}; rename one of the pages")
            if isinstance(shown, dict) and prints:
                shown = {**shown, "svg": printed(page, prints)}
            file.write_text(written(page, shown, template), encoding="utf-8")
            made.add(file)
    return out / "index.html"


def written(page: str, shown: dict[str, Any] | Data | Path, template: Template) -> str:
    """The text of one page, or of one script."""
    if isinstance(shown, Path):
        return shown.read_text(encoding="utf-8")
    return shown.script(page) if isinstance(shown, Data) else template.render(shown)


def page_of(kind: str, name: str) -> str:
    """The name of the page of a workload, device, kernel or case: safe as that of a file and in a link.

    What does not fit into one is left out, and a few letters that stand for all of it keep two such apart.
    """
    safe = re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:80].strip("-")
    if safe != name or not name:
        safe = f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return f"{kind}-{safe}"


def inline(figure: Figure, name: str, says: str) -> Markup:
    """A figure as a piece of a page."""
    return Markup(svg(figure, name, says))  # svg escapes


def printed(page: str, prints: Prints) -> Callable[[Figure, str, str], Markup]:
    """The same, and each figure of a page as a file too."""

    def draw(figure: Figure, name: str, says: str) -> Markup:
        made = inline(figure, name, says)
        prints.save(figure, page_of(page, name), says)
        return made

    return draw


def environment(folder: Path, **facts: Any) -> Environment:
    """Where templates are found: beside their report, then among the suite's own. facts are told to all."""
    places = [folder, *import_module("suite.reports").__path__]
    made = Environment(
        loader=FileSystemLoader([str(place) for place in places]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["svg"] = inline
    made.globals |= {"page_of": page_of, **facts}
    made.filters["verdict"] = {True: "yes", False: "no", None: "unknown"}.get
    made.filters["unbroken"] = lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%")
    made.filters |= {
        one.__name__: known(one) for one in (seconds, joules, percent, times, count, amount, short)
    }
    return made


def known(show: Callable[[float], str]) -> Callable[[float | None], str]:
    """The same words, and a dash for what was not measured."""
    return lambda value: NOTHING if value is None or pd.isna(value) else show(value)
