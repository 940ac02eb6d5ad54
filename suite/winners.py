"""Winners: whose energy gets a window of its own: a group's best dense and best sparse kernel."""

from collections.abc import Iterable, Sequence
from statistics import median

from suite.record import Result

MOST = 40  # windows; a window takes seven seconds
TYPICAL = 0.9  # the sparsity at which a group is metered, or the nearest it has


def winners(results: Iterable[Result], everything: bool = False) -> dict[tuple[str, str], tuple[str, ...]]:
    """(workload, case) -> kernels to meter."""
    times: dict[tuple[str, str], dict[str, list[float]]] = {}
    facts: dict[tuple[str, str], Result] = {}
    dense: dict[str, bool] = {}
    for line in results:
        if line.outcome == "ok" and line.seconds and line.cache != "rotating":
            at = (line.workload, line.case)
            times.setdefault(at, {}).setdefault(line.kernel, []).append(median(line.seconds))
            facts[at], dense[line.kernel] = line, line.dense
    if everything:
        return {at: tuple(kernels) for at, kernels in times.items()}
    groups: dict[tuple, list[tuple[str, str]]] = {}
    for at, line in facts.items():
        family = line.pattern.rstrip("0123456789.e-").rstrip("@")
        groups.setdefault((line.workload, *line.sizes.values(), family, line.dtype, line.data), []).append(at)
    chosen: dict[tuple[str, str], tuple[str, ...]] = {}
    for cases in groups.values():
        at = min(cases, key=lambda at: abs((facts[at].sparsity or 0) - TYPICAL))
        if len(chosen) * 2 < MOST:
            chosen[at] = best_of_each(times[at], dense)
    return chosen


def best_of_each(times: dict[str, list[float]], dense: dict[str, bool]) -> tuple[str, ...]:
    """The fastest dense and the fastest sparse kernel, where there are any."""
    picked: Sequence[str] = []
    for kind in (True, False):
        names = [name for name in times if dense[name] is kind]
        if names:
            picked = [*picked, min(names, key=lambda name: median(times[name]))]
    return tuple(picked)
