"""Topology: which cores a run is pinned to, and what a child process must be told before it imports torch.

Every reader takes the root of the file system, so that tests can show it other machines.
"""

import os
import sys
from collections.abc import Collection, Iterator
from math import floor
from pathlib import Path

from suite.registry import Unusable

ROOT = Path("/")
CPUS = "sys/devices/system/cpu"

# Favoured cores of one kind differ by less than a tenth in their highest clock; kinds of cores by a third.
SAME_KIND = 0.8

# Threads that wait for the next parallel region for this long keep their core's clock up.
WAIT_MILLISECONDS = 200


COUNTS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def text(file: Path) -> str | None:
    """What a file of /sys or /proc says; None where it is missing or may not be read."""
    try:
        return file.read_text(errors="replace").strip()
    except (OSError, ValueError):
        return None


def number(file: Path) -> int | None:
    """The whole number a file holds."""
    try:
        return int(text(file) or "")
    except ValueError:
        return None


def cpu_list(said: str | None) -> tuple[int, ...]:
    """The numbers of a list as the kernel writes them: "0-2,8" is 0, 1, 2, 8."""
    found: set[int] = set()
    for part in (said or "").split(","):
        first, _, last = part.strip().partition("-")
        if first.isdigit() and (not last or last.isdigit()):
            found.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(found))


def allowed(root: Path = ROOT) -> tuple[int, ...]:
    """The CPUs this process may run on: its affinity, where the system has such a thing."""
    if root == ROOT and hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    listed = status(root, "Cpus_allowed_list")
    return cpu_list(listed) or cpu_list(text(root / CPUS / "online")) or tuple(range(os.cpu_count() or 1))


def status(root: Path, field: str) -> str | None:
    """A field of this process's /proc/self/status."""
    for line in (text(root / "proc/self/status") or "").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return value.strip()
    return None


def siblings(root: Path, cpu: int) -> tuple[int, ...]:
    """The hardware threads of a CPU's core, itself among them."""
    folder = root / CPUS / f"cpu{cpu}" / "topology"
    listed = cpu_list(text(folder / "core_cpus_list")) or cpu_list(text(folder / "thread_siblings_list"))
    return listed or (cpu,)


def one_per_core(root: Path, cpus: Collection[int]) -> tuple[int, ...]:
    """One hardware thread of each core: two on one core share its arithmetic and its caches."""
    return tuple(sorted({min(set(siblings(root, cpu)) & set(cpus), default=cpu) for cpu in cpus}))


def strength(root: Path, cpu: int) -> int | None:
    """How strong a core is among its neighbours: what the scheduler says, else its highest clock."""
    folder = root / CPUS / f"cpu{cpu}"
    return number(folder / "cpu_capacity") or number(folder / "cpufreq/cpuinfo_max_freq")


def performance(root: Path, cpus: Collection[int]) -> tuple[int, ...]:
    """Those of the strongest kind; all of them where the cores are alike or nobody says."""
    strong = set(cpu_list(text(root / "sys/devices/cpu_core/cpus"))) & set(cpus)
    if strong:
        return tuple(sorted(strong))
    clocks = {cpu: strength(root, cpu) or 0 for cpu in cpus}
    most = max(clocks.values(), default=0)
    return tuple(sorted(cpu for cpu, clock in clocks.items() if clock >= SAME_KIND * most))


def nodes(root: Path) -> list[tuple[int, ...]]:
    """The CPUs of each NUMA node."""
    folders = (root / "sys/devices/system/node").glob("node[0-9]*")
    ordered = sorted(folders, key=lambda folder: int(folder.name.removeprefix("node")))
    return [cpus for folder in ordered if (cpus := cpu_list(text(folder / "cpulist")))]


def groups(root: Path, cpus: Collection[int]) -> list[tuple[int, ...]]:
    """Cores in the order they are taken: strong ones of the largest node, of the other nodes, the rest."""
    cores = one_per_core(root, cpus)
    strong = set(performance(root, cores))
    by_node = [tuple(sorted(strong & set(node))) for node in nodes(root)]
    by_node.sort(key=len, reverse=True)
    unplaced = strong.difference(*by_node)
    made = [*by_node, tuple(sorted(unplaced)), tuple(sorted(set(cores) - strong))]
    return [group for group in made if group]


def pick(threads: int | None = None, root: Path = ROOT) -> tuple[int, ...]:
    """The CPUs to pin to: performance cores of one NUMA node, one thread each, as far as the quota goes."""
    mine = groups(root, allowed(root))
    if threads is None:
        limit = quota(root)
        return mine[0][: max(1, floor(limit)) if limit else None]
    cores = [cpu for group in mine for cpu in group]
    if not 1 <= threads <= len(cores):
        raise Unusable(
            f"--threads {threads}: this process may use {len(cores)} core{'s' * (len(cores) > 1)}. "
            f"Ask for 1 to {len(cores)}, or leave the option out."
        )
    return tuple(sorted(cores[:threads]))


def control_groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders that limit this process, innermost first: of cgroup v2, then of v1's controller."""
    mount = root / "sys/fs/cgroup"
    for line in (text(root / "proc/self/cgroup") or "0::/").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        top = mount / controllers if controllers and (mount / controllers).is_dir() else mount
        if controllers and top == mount:
            top = mount / controller
        parts = [part for part in path.split("/") if part not in ("", "..")]
        # A container sees its own group at the top, under a path that may not exist inside it.
        yield from (top.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1))


def quota(root: Path = ROOT) -> float | None:
    """How many CPUs' worth of time the control groups grant; None without a limit."""
    limits = []
    for folder in control_groups(root, "cpu"):
        granted, _, period = (text(folder / "cpu.max") or "").partition(" ")
        if not granted:
            granted = text(folder / "cpu.cfs_quota_us") or ""
            period = text(folder / "cpu.cfs_period_us") or ""
        if granted.isdigit() and int(granted) and period.isdigit() and int(period):
            limits.append(int(granted) / int(period))
    return min(limits, default=None)


def memory(root: Path = ROOT) -> int | None:
    """Bytes a run may use: the machine's, or less where a control group says so."""
    limits = []
    for line in (text(root / "proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            limits.append(int(line.split()[1]) * 1024)
    for folder in control_groups(root, "memory"):
        limits += [number(folder / "memory.max"), number(folder / "memory.limit_in_bytes")]
    return min((limit for limit in limits if limit), default=None)


def pin(cpus: Collection[int]) -> None:
    """Confine this process to these CPUs: every thread it has, and through them those to come."""
    if not hasattr(os, "sched_setaffinity"):
        return
    # sched_setaffinity(0) would move the calling thread alone and leave a library's workers behind.
    for task in Path("/proc/self/task").iterdir():
        try:
            os.sched_setaffinity(int(task.name), cpus)
        except ProcessLookupError:
            continue  # a thread that ended meanwhile


def environment(threads: int) -> dict[str, str]:
    """What a child process needs in its environment before it imports torch."""
    # No OMP_PROC_BIND: it ties the main thread to one core, and whatever starts threads later (numba,
    # another OpenMP, a BLAS) inherits that core for all of them.
    made = dict.fromkeys(COUNTS, str(threads))
    made |= {"OMP_DYNAMIC": "FALSE", "MKL_DYNAMIC": "FALSE", "KMP_BLOCKTIME": str(WAIT_MILLISECONDS)}
    if sys.platform == "linux":
        made["KMP_AFFINITY"] = "disabled"  # Intel's runtime binds threads of its own accord otherwise
    return made
