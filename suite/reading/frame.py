"""Frame: results files as a tidy table, a row for each kernel on each case (and cache, and device).

Which kernel is the best of a case is chosen on the odd samples of every visit; every time, ratio and interval
in the table comes from the even ones. Ratios are paired by visit. Failed kernels stay, with their reason.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from suite import record
from suite.ceilings import merge
from suite.device import Ceiling
from suite.op import discover_parts
from suite.reading.about import AS_RECORDED
from suite.reading.opened import opened
from suite.reading.row import Row, tell
from suite.record import Ceilings, Recorded, Result, Run

COLUMNS = {
    "as recorded": AS_RECORDED,
    "words": """
sizes family line regime outcome note best_dense break_even_note energy_note throttle disturbed command""",
    "flags": "best old one_sample above_bound",
    "numbers": """
m k n sparsity visits median low high best_dense_median speed_up speed_up_low speed_up_high nominal realised
flops moved stored bound roofline setup break_even break_even_low break_even_high joules joules_net
joules_per_flop joules_saved foreign steal clock_spread half_width""",
}

Rows = Any  # some rows of the frame. By pandas's own annotations any column may be anything

Line = tuple[int, Run | None, Result]  # the number of its file, and its header


def read(*files: Path | str) -> pd.DataFrame:
    """The tidy table of results files. `attrs` tells how many lines of older kernels were left out."""
    return tidy([opened(file) for file in files])


def tidy(recorded: Sequence[Recorded], scope: str = "kernel") -> pd.DataFrame:
    """The same, of files already read. Lines with a fault, and files of another schema, are not used."""
    return made_of(usable(recorded, scope), ceilings_of(recorded))


def usable(recorded: Sequence[Recorded], scope: str = "kernel") -> list[Line]:
    """Every line of a scope without a fault, of the files of this schema: scopes never meet."""
    return [
        (number, one.run, line)
        for number, one in enumerate(recorded)
        if one.run is not None and not record.faults_of(one.run)
        for line in one.results
        if line.scope == scope and not record.faults_of(line)
    ]


def from_lines(lines: Iterable[Result]) -> pd.DataFrame:
    """The same, of lines that are in no file."""
    return made_of([(0, None, line) for line in lines], {})


def made_of(lines: Sequence[Line], ceilings: Mapping[str, Ceiling]) -> pd.DataFrame:
    """Lines with the number of their file and its header, as rows."""
    discover_parts()
    newest = current(lines)
    told: list[dict[str, Any]] = []
    for group in grouped(newest).values():
        best = best_of(group)
        told += [tell(row, best, ceilings.get(row.first.device)) for row in group]
    frame = pd.DataFrame(told, columns=[name for names in COLUMNS.values() for name in names.split()])
    kinds: dict[str, Any] = dict.fromkeys(COLUMNS["numbers"].split(), float)
    kinds |= dict.fromkeys((*COLUMNS["flags"].split(), "dense"), bool)
    kinds |= dict.fromkeys(("visits", "seed", "threads"), int)
    frame = frame.astype(kinds)
    frame.attrs["superseded"] = len(lines) - len(newest)
    return frame


def current(lines: Sequence[Line]) -> list[Line]:
    """Those of each kernel's newest version."""
    newest = newest_hashes(line for _, _, line in lines)
    return [found for found in lines if newest[found[2].device, found[2].entry] == found[2].kernel_hash]


def newest_hashes(lines: Iterable[Result]) -> dict[tuple[str, str], str]:
    """The version of each kernel measured last on each device: another hash is another kernel."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for line in lines:
        key = line.device, line.entry
        found[key] = max(found.get(key, ("", "")), (line.started, line.kernel_hash))
    return {key: hash for key, (_, hash) in found.items()}


def ceilings_of(recorded: Iterable[Recorded]) -> dict[str, Ceiling]:
    """The best each device was seen to do, over all windows of all processes."""
    made: dict[str, Ceiling] = {}
    for line in (line for one in recorded for line in one.lines if isinstance(line, Ceilings)):
        made[line.device] = merge(made.get(line.device, Ceiling()), Ceiling(line.flops, line.bandwidth))
    return made


def grouped(lines: Iterable[Line]) -> dict[tuple, list[Row]]:
    """Rows that compete: same device, workload, case, scope, cache, threads. Energy windows join them."""
    rows: dict[tuple, dict[tuple, Row]] = defaultdict(dict)
    windows: list[Result] = []
    for number, run, line in lines:
        if line.cache == "rotating":
            windows.append(line)
            continue
        group = rows[line.device, line.workload, line.case, line.scope, line.cache, line.threads]
        row = group.setdefault((line.kernel, line.selector), Row(line, run))
        row.lines[number, line.visit] = line
    for window in windows:
        for state in ("cold", "hot"):
            key = (window.device, window.workload, window.case, window.scope, state, window.threads)
            if row := rows.get(key, {}).get((window.kernel, window.selector)):
                row.energy.append(window)
    return {key: list(group.values()) for key, group in rows.items()}


def best_of(group: Sequence[Row]) -> dict[bool, Row | None]:
    """The best dense (True) and the best sparse row (False) of those that compete.

    Masked and simulated sparsity skip no zeros; what keeps no more of value than luck has chosen nothing.
    Both are shown, but are never the answer.
    """
    luck = max((row.recall for row in group if row.first.control == "luck"), default=0.0)
    sparse = [row for row in group if not row.first.dense and row.first.execution == "sparse"]
    return {
        True: fastest([row for row in group if row.first.dense]),
        False: fastest(
            [row for row in sparse if not row.first.selector or (not row.first.control and row.recall > luck)]
        ),
    }


def fastest(rows: Sequence[Row]) -> Row | None:
    """The best by the odd samples, of those that have all visits of their files: one missed may be slow.

    A kernel that has changed since is not in older files, and none the worse for it.
    """
    counts = [(row, Counter(file for file, _ in row.timed)) for row in rows]
    most: Counter[int] = Counter()
    for _, count in counts:
        most |= count
    able = [
        (row.chosen_by.middle, row)
        for row, count in counts
        if row.chosen_by and all(count[file] == most[file] for file in {file for file, _ in row.lines})
    ]
    return min(able, key=lambda pair: pair[0])[1] if able else None
