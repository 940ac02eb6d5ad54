"""make a results file fit to be shared: check it, scrub it, put it into a checkout, print what to do next"""

import argparse
import shlex
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from suite.commands.validate import show
from suite.record import Recorded, read
from suite.registry import Unusable
from suite.submitting.check import check
from suite.submitting.scrub import Removed, names_here, scrubbed


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path)
    parser.add_argument(
        "--into",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="a checkout of sparsemark; default: this folder",
    )


def go(given: argparse.Namespace) -> int:
    if not given.file.is_file():
        raise Unusable(f"no file {given.file}. Name a results file.")
    if not (given.into / "results").is_dir():
        raise Unusable(f"{given.into.resolve()} has no folder results. Name a checkout: --into DIR.")
    text, removed = scrubbed(given.file, names_here())
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / given.file.name
        copy.write_bytes(text)
        recorded = read(copy)
    say_scrubbed(given.file, removed)
    found = check(recorded)
    show(found, given.file)
    if found.faults:
        print("Nothing was copied. Mend what can be mended, or measure again.", file=sys.stderr)
        return 1
    place = place_of(recorded, given.file, given.into)
    put(text, given.file, place, given.into)
    print(steps(recorded, place, given.into))
    return 0


def say_scrubbed(file: Path, removed: Sequence[Removed]) -> None:
    """What was taken out, and where."""
    kinds: dict[str, list[int]] = defaultdict(list)
    for one in removed:
        kinds[one.kind].append(one.line)
    for kind, at in kinds.items():
        several = ", ".join(map(str, sorted(set(at))[:5])) + (", ..." if len(set(at)) > 5 else "")
        print(f"{file}: {len(at)} x {kind} left out, in lines {several}")
    if not kinds:
        print(f"{file}: nothing to leave out")


def place_of(recorded: Recorded, file: Path, into: Path) -> Path:
    """results/<device>/<start>.jsonl; where the file lies there already, its own name."""
    run = recorded.run
    assert run is not None  # else there was a fault
    folder = Path("results") / next(iter(run.devices))
    if file.resolve().parent == (into / folder).resolve():
        return folder / file.name
    return folder / f"{run.started[:19].replace(':', '')}.jsonl"


def put(text: bytes, file: Path, place: Path, into: Path) -> None:
    """Write what is to be shared; another run is never overwritten, its own file is replaced."""
    target = into / place
    if target.exists() and target.read_bytes() == text:
        return
    if target.exists() and not target.samefile(file):
        raise Unusable(f"{target} is another run already. Rename it, or submit into another checkout.")
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_suffix(".new")
    fresh.write_bytes(text)
    fresh.replace(target)


def steps(recorded: Recorded, place: Path, into: Path) -> str:
    """The pull request, command by command."""
    run = recorded.run
    assert run is not None
    (about,) = run.devices.values()
    branch = f"results-{place.parent.name}-{place.stem}"
    title = f"Results: {about['name']}, {run.started[:10]}"
    return "\n".join(
        (
            f"{into / place} is ready. In your fork's checkout:",
            "",
            *((f"  cd {shlex.quote(str(into))}",) if into != Path() else ()),
            f"  git switch --create {shlex.quote(branch)} origin/main",
            f"  git add {shlex.quote(str(place))}",
            f"  git commit --message {shlex.quote(title)}",
            "  git push --set-upstream origin HEAD",
            "",
            "then open a pull request. It holds this file and nothing else, and is checked in the same way.",
        )
    )
