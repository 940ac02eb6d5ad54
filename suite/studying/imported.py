"""Imported: scores of a table as lines: models that were made sparse and judged elsewhere, by somebody else.

A row is a model: COLUMNS says what it holds. A table is taken whole or not at all: half of one would be
another result. Where it does not name its data, its fingerprint does, and it shares no curve with others.
"""

import csv
import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from suite import harmless, record
from suite.harmless import Data, Word
from suite.method import DENSE
from suite.pattern import parse
from suite.record import Fault, Score
from suite.registry import Unusable
from suite.studying.experiment import SIDE

COLUMNS = {  # -> whether every row has to fill it
    "method": True,
    "pattern": True,
    "seed": True,
    "metric": True,
    "better": True,
    "value": True,
    "training": True,
    "dense_value": False,
    "sparsity": False,
    "data": False,
    "control": False,
    "start": False,
    "iso": False,
    "tuning_runs": False,
    "train_flops": False,
    "train_tokens": False,
    "infer_flops": False,
    "nonzeros": False,
    "bytes": False,
    "ids": False,
    "note": False,
}

Row = dict[str, str]


def imported(file: Path, task: str, protocol: str, device: str) -> tuple[list[Score], list[Fault]]:
    """The lines of a table, and what is wrong with its rows, by the line of the file each ends on.

    Unusable: it is no table of scores at all.
    """
    for option, text in (("--task", task), ("--protocol", protocol)):
        if wrong := list(harmless.fits(text, Word, option)):
            raise Unusable(f"{option}: {wrong[0]}. Use letters, digits, '.', '_' and '-'.")
    about = {
        "device": device,
        "task": task,
        "protocol": protocol,
        "data": fingerprint(file),
        "outcome": "ok",
        "imported": True,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    rows = list(read(file))
    dense = {row.get("seed"): row.get("value") for _, row in rows if row.get("method") == DENSE.name}
    lines: list[Score] = []
    faults: list[Fault] = []
    seen: dict[tuple, tuple[int, Any]] = {}
    for number, row in rows:
        said: list[str] = []
        try:
            line = made(about, row, dense)
            said += faults_of(line, number, seen)
            lines.append(line)
        except (msgspec.ValidationError, Unusable, ValueError) as wrong:
            said.append(harmless.told(wrong))
        faults += [Fault(str(file), number, says) for says in said]
    return lines, faults


def read(file: Path) -> Iterator[tuple[int, Row]]:
    """(line of the file, cells by column) of each row. Unusable: it is no table of scores."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            table = csv.DictReader(opened)
            held_to(file, table.fieldnames or [])
            for row in table:
                yield table.line_num, {name: stripped(cell) for name, cell in row.items()}
    except (OSError, UnicodeDecodeError, csv.Error) as wrong:
        why = wrong.strerror if isinstance(wrong, OSError) else harmless.told(wrong)
        raise Unusable(f"{file}: not a table of comma-separated values in UTF-8: {why}.") from None


def stripped(cell: Any) -> Any:
    """A cell without the spaces around it. One too many is a list, one too few None: `made` says so."""
    return cell.strip() if isinstance(cell, str) else cell


def held_to(file: Path, names: Any) -> None:
    """Unusable: columns that are not known, told twice, or lacking."""
    unknown = [harmless.shown(name, 40) for name in names if name not in COLUMNS]
    twice = sorted({name for name in names if names.count(name) > 1})
    lacking = [name for name, needed in COLUMNS.items() if needed and name not in names]
    for which, says in ((unknown, "is not known"), (twice, "is there twice"), (lacking, "is missing")):
        if which:
            raise Unusable(f"{file}: column {', '.join(which)} {says}. There are: {', '.join(COLUMNS)}.")


def made(about: Mapping[str, Any], row: Row, dense: Mapping[str | None, str | None]) -> Score:
    """The line of a row. Raises what is wrong with it."""
    if None in row or None in row.values():
        raise ValueError(f"it has more or fewer cells than the {len(COLUMNS.keys() & row.keys())} columns")
    given: dict[str, Any] = {name: text for name, text in row.items() if text}
    if lacking := [name for name, needed in COLUMNS.items() if needed and name not in given]:
        raise ValueError(f"{', '.join(lacking)} is empty")
    whole = given["method"] == DENSE.name
    if whole:
        given |= {"pattern": DENSE.name, "sparsity": "0", "start": "fresh", "execution": "dense"}
    given.setdefault("dense_value", given["value"] if whole else dense.get(row["seed"]))
    if given["dense_value"] is None:
        raise ValueError("no dense_value, and no row of the method dense with its seed")
    if "sparsity" not in given:
        given["sparsity"] = parse(given["pattern"]).sparsity_of(SIDE, SIDE)
    if "ids" in given:
        given["ids"] = given["ids"].split()
    return msgspec.convert({**about, **given}, Score, strict=False)


def faults_of(line: Score, number: int, seen: dict[tuple, tuple[int, Any]]) -> Iterator[str]:
    """What of a line cannot be, is there already, or is at odds with an earlier one."""
    yield from record.faults_of(line)
    if not line.dense_value:
        yield "dense_value is 0: no share of it can be lost"
    if (first := seen.setdefault(line.key, (number, None))[0]) != number:
        yield f"the same method, pattern and seed as line {first}"
    alike = {
        ("better", line.metric): line.better,
        ("dense_value", line.metric, line.data, line.seed): line.dense_value,
    }
    for key, value in alike.items():
        first, other = seen.setdefault(key, (number, value))
        if other != value:
            yield f"{key[0]} is {value}, and in line {first} {other}"


def fingerprint(file: Path) -> str:
    """The table's name and a hash of it."""
    try:
        made = f"{file.stem}-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}"
        return msgspec.convert(made, Data)
    except OSError as failed:
        raise Unusable(f"no table {file}: {failed.strerror}. Name a file.") from None
    except msgspec.ValidationError:
        raise Unusable(f"{file}: its name is to be letters, digits, '.', '_' and '-'.") from None
