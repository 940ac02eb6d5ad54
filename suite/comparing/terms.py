"""Terms: what two runs must share for a change in time to be a change in code."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from suite.comparing.side import Side
from suite.record import Run

# What of a device may differ, and is said. Anything else makes it another machine: model, cores, caches,
# instructions, power limit, clocks, a quota.
NOTED = {"driver", "cuda", "system", "memory_gib", "persistence"}
OPTIONS = ("extent", "cap", "flush")  # of those a run states, what changes how a time comes about


@dataclass(frozen=True)
class Terms:
    """Why two sides cannot be held against each other, and what a reader must know if they can."""

    refused: list[str]
    noted: list[str]


def terms(base: Side, head: Side) -> Terms:
    """Of two sides."""
    refused, noted = [], []
    if base.devices.keys() != head.devices.keys():
        refused.append(f"measured on {named(base)}, and then on {named(head)}")
    for key in sorted(base.devices.keys() & head.devices.keys()):
        for what, before, after in unlike(base.devices[key], head.devices[key]):
            said = changed(what.replace("_", " "), before, after)
            (noted if what in NOTED else refused).append(said)
    for kind, before, after in (
        ("", versions(base.runs), versions(head.runs)),
        ("option ", options(base.runs), options(head.runs)),
    ):
        noted += [changed(kind + what, *pair) for what, *pair in unlike(before, after, missing="none")]
    return Terms(refused, noted)


def unlike(
    before: Mapping[str, Any], after: Mapping[str, Any], missing: str | None = None
) -> Iterator[tuple[str, Any, Any]]:
    """(what, before, after) of all that differs; what one side lacks is passed over, or `missing`."""
    for what in dict.fromkeys((*before, *after)):
        if missing is None and not (what in before and what in after):
            continue
        pair = before.get(what, missing), after.get(what, missing)
        if pair[0] != pair[1]:
            yield what, *pair


def changed(what: str, before: Any, after: Any) -> str:
    """A difference in few words; of lists, such as instruction sets, what one has and not the other."""
    if isinstance(before, list) and isinstance(after, list):
        before, after = [x for x in before if x not in after], [x for x in after if x not in before]
        before, after = (" ".join(map(str, side)) or "nothing more" for side in (before, after))
    return f"{what}: {before}, then {after}"


def named(side: Side) -> str:
    return " and ".join(str(about.get("name", key)) for key, about in side.devices.items()) or "nothing known"


def versions(runs: Sequence[Run]) -> dict[str, Any]:
    """Everything that has a version: sparsemark, libraries, plug-ins. Several in a side are all told."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        told = {"sparsemark": run.version, **run.libraries}
        for plugin in run.plugins:
            name = plugin.get("file") or plugin.get("distribution") or plugin.get("name")
            told[f"plug-in {name}"] = str(plugin.get("hash") or plugin.get("version"))
        for name, version in told.items():
            found.setdefault(name, {})[version] = None
    return {name: " and ".join(seen) for name, seen in found.items()}


def options(runs: Sequence[Run]) -> dict[str, Any]:
    """How it was measured."""
    return {name: run.options[name] for run in runs for name in OPTIONS if name in run.options}
