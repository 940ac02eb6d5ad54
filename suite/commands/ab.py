"""two versions of a repository, measured in turn in fresh processes

sparsemark ab --base origin/main                  in a checkout of sparsemark: HEAD against a ref
sparsemark ab --base origin/main --plugin bench/mine.py --build "pip install --no-build-isolation -e ."
                                                  in a repository of yours: a plug-in registers its kernels

Each ref gets a worktree and an environment that shares this one's torch. A plug-in is the ref's own, or where
the ref has none, the working copy's. Exit status as of `compare`; a head that cannot be built is BROKEN.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path

from rich.console import Console
from rich.text import Text

from suite import devices
from suite.commands import load, print_cautions
from suite.commands.compare import declare_outputs, declare_rule, gate_of, keep, put, rule_of
from suite.commands.run import duration, positive
from suite.comparing import broken, github
from suite.comparing.comparison import INCOMPARABLE, REGRESSION, Incomparable
from suite.comparing.duel import Duel, unfounded
from suite.comparing.versions import Failed, Version, checked_out, commit_of, root_of
from suite.device import Device
from suite.kernel import KERNELS
from suite.registry import Unusable
from suite.workload import EXTENTS

COMPARISONS = Path("comparisons")
RUNS = 10  # pairs


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workload", nargs="*", help="workloads to measure; all if none is named")
    parser.add_argument("--base", required=True, metavar="REF")
    parser.add_argument("--head", default="HEAD", metavar="REF", help="default: HEAD")
    parser.add_argument("--build", metavar="CMD", help="run in each worktree, with its environment")
    parser.add_argument("--runs", type=positive, default=RUNS, metavar="R", help="pairs, at most; default 10")
    parser.add_argument("--budget", type=duration, metavar="TIME", help="of measuring: 90s, 10m, 2h")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="default: comparisons/START")
    parser.add_argument("--extent", choices=EXTENTS, default="smoke")
    parser.add_argument(
        "--kernels", metavar="GLOB", help="and the dense ones; default: those of the plug-in, or all"
    )
    parser.add_argument("--case", nargs="+", default=[], metavar="ID", action="extend")
    parser.add_argument("--set", nargs="+", default=[], metavar="AXIS=VALUES", action="extend", dest="axes")
    parser.add_argument("--matrix", nargs="+", default=[], metavar="FILE", action="extend")
    parser.add_argument("--plugin", nargs="+", default=[], metavar="FILE", action="extend")
    parser.add_argument("--device", metavar="cpu|cuda:N", help="default: the first GPU, else the CPU")
    parser.add_argument("--cache", choices=("cold", "hot"), default="cold")
    parser.add_argument("--threads", type=positive, metavar="N")
    declare_rule(parser)
    declare_outputs(parser)


def go(given: argparse.Namespace) -> int:
    load()
    rule, gate = rule_of(given), gate_of(given)
    device = devices.find_one(given.device, given.threads)
    repository = root_of(Path.cwd())
    for ref in (given.base, given.head):
        commit_of(repository, ref)
    folder = (given.keep or COMPARISONS / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    screen = Console(stderr=True)
    print_cautions(device, screen)

    def show(says: str) -> None:
        screen.print(Text(says), soft_wrap=True)

    try:
        with tempfile.TemporaryDirectory(prefix="sparsemark-ab-") as scratch, ExitStack() as keeping:
            base, head = built(given, repository, Path(scratch), folder, keeping, show)
            chosen = kernels(given, device, (base, head), repository)

            def words(version: Version) -> list[str]:
                return options(given, device.spec, chosen, plugins(given.plugin, version, repository))

            found = Duel(base, head, folder, words, show).go(given.runs, given.budget, rule, gate)
    except Incomparable as why:
        print(f"sparsemark: {why}", file=sys.stderr)
        return INCOMPARABLE
    except Failed as failed:
        return put_failure(failed, given, folder)
    status = put(found, given)
    print(f"Kept in {folder}", file=sys.stderr)
    return status


def built(
    given: argparse.Namespace,
    repository: Path,
    scratch: Path,
    folder: Path,
    keeping: ExitStack,
    show: Callable[[str], None],
) -> list[Version]:
    """Both versions. A base that cannot be built leaves nothing to compare with."""
    made = []
    for name, ref in (("base", given.base), ("head", given.head)):
        show(f"building {name}: {ref}")
        at = checked_out(repository, ref, name, given.build, scratch, folder / f"{name}.log")
        try:
            made.append(keeping.enter_context(at))
        except Failed as failed:
            if name == "head":
                raise
            raise unfounded(failed) from failed
    return made


def kernels(given: argparse.Namespace, device: Device, versions: Sequence[Version], repository: Path) -> str:
    """Globs of what to measure: what was asked for or plug-ins bring, and the dense kernels of its ops."""
    if not (given.kernels or given.plugin):
        return "*"
    ops: dict[str, str] = {}  # of the kernels that either version has
    for version in versions:
        words = ["--plugin", *plugins(given.plugin, version, repository)] if given.plugin else []
        try:
            there = json.loads(version.measure("list", "--json", *words))["kernels"]
        except Failed as failed:
            if version is versions[0]:
                raise unfounded(failed) from failed
            raise
        ops |= {name: about["op"] for name, about in there.items() if "op" in about}
    globs = given.kernels.split(",") if given.kernels else sorted(ops.keys() - KERNELS.keys())
    chosen = {ops[name] for name in ops if any(fnmatch(name, glob.partition("+")[0]) for glob in globs)}
    if not chosen:
        raise Unusable(
            f"--kernels {given.kernels!r} matches no kernel of either version."
            if given.kernels
            else f"--plugin {' '.join(given.plugin)} registers no kernel in either version. Name with "
            "--kernels which of the others it is to be tried with."
        )
    dense = [
        name
        for name, one in KERNELS.items()
        if one.dense and one.on == device.kind and one.op in chosen and given.extent in one.extents
    ]
    return ",".join(dict.fromkeys((*globs, *dense)))


def plugins(files: Sequence[str], version: Version, repository: Path) -> list[str]:
    """Each as the version has it, else as the working copy does."""
    found = []
    for file in files:
        mine = Path(file).resolve()
        theirs = version.folder / mine.relative_to(repository) if mine.is_relative_to(repository) else mine
        if not mine.is_file() and not theirs.is_file():
            raise Unusable(f"--plugin {file}: there is no such file, neither here nor in {version}.")
        found.append(str(theirs if theirs.is_file() else mine))
    return found


def options(given: argparse.Namespace, device: str, kernels: str, plugins: Sequence[str]) -> list[str]:
    """For `sparsemark run` of either version."""
    words = [*given.workload, "--extent", given.extent, "--kernels", kernels, "--device", device]
    words += ["--cache", given.cache, *(["--threads", str(given.threads)] if given.threads else [])]
    matrices = [str(Path(one).resolve()) if Path(one).exists() else one for one in given.matrix]
    many = {"--case": given.case, "--set": given.axes, "--matrix": matrices, "--plugin": plugins}
    return words + [word for name, some in many.items() if some for word in (name, *some)]


def put_failure(failed: Failed, given: argparse.Namespace, folder: Path) -> int:
    """A version that does not stand is BROKEN, in every output."""
    told = json.dumps(broken.told(failed), indent=2)
    quiet = str(given.json) == "-"
    if quiet:
        print(told)
    else:
        with github.deaf():
            print(broken.text(failed), flush=True)
    for file, text in ((given.markdown, broken.markdown(failed)), (given.html, broken.page(failed))):
        if file is not None:
            keep(file, text)
    if given.json is not None and not quiet:
        keep(given.json, told + "\n")
    github.tell(broken.markdown(failed), [broken.annotation(failed)], quiet)
    print(f"Kept in {folder}", file=sys.stderr)
    return REGRESSION
