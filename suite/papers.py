"""Papers: what their authors claim, on their hardware. Shown beside our numbers, never mixed into them."""

import csv
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path


@dataclass(frozen=True)
class Published:
    """A speed-up that a paper reports, and the nominal one: 1 / (1 - sparsity), or as the paper says."""

    setting: str
    nominal: float
    realised: float
    note: str = ""

    @property
    def quotient(self) -> float:
        """The share of the nominal speed-up that is real."""
        return self.realised / self.nominal


@cache
def papers() -> dict[str, dict[str, str]]:
    """The project's table: id -> title, claim, link."""
    return {row.pop("id"): row for row in table("papers.csv")}


@cache
def published() -> dict[str, list[Published]]:
    """id -> the speed-ups it reports whose nominal one is known."""
    found: dict[str, list[Published]] = {}
    for row in table("realised.csv"):
        one = Published(row["setting"], float(row["nominal"]), float(row["realised"]), row["note"])
        found.setdefault(row["id"], []).append(one)
    return found


def table(name: str) -> list[dict[str, str]]:
    """A table beside the workloads."""
    (folder,) = import_module("suite.workloads").__path__
    with (Path(folder) / name).open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))
