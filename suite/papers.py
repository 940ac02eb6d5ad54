"""Papers: what their authors claim, on their hardware. Shown beside our numbers, never mixed into them."""

import csv
from functools import cache
from importlib import import_module
from pathlib import Path


@cache
def papers() -> dict[str, dict[str, str]]:
    """The project's table: id -> title, claim, link."""
    (folder,) = import_module("suite.workloads").__path__
    with (Path(folder) / "papers.csv").open(newline="", encoding="utf-8") as lines:
        return {row.pop("id"): row for row in csv.DictReader(lines)}
