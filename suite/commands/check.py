"""the registry's correctness tests on any kernel, a stranger's too; nothing is timed

sparsemark check                                  every kernel that runs here
sparsemark check --plugin mine.py                 those of your own
sparsemark check spmm_csr_tiled attention_block   these
"""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from suite.commands import load
from suite.commands.run import duration
from suite.examiner import Word, examined
from suite.registry import pick
from suite.selector import entries

SHOWN = 5  # bad trials of a kernel


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kernel", nargs="*", help="default: those that a plug-in brings, else all")
    parser.add_argument("--plugin", nargs="+", default=[], metavar="FILE", action="extend")
    parser.add_argument("--json", action="store_true", help="for a program")
    parser.add_argument(
        "--limit", type=duration, default=60.0, metavar="TIME", help="longest trial of a kernel: 60s, 2m"
    )


def go(given: argparse.Namespace) -> int:
    load()
    known = entries().keys()
    load(given.plugin)
    there = entries()
    brought = [name for name in there if name not in known]
    chosen = [pick("kernel", name, there).name for name in dict.fromkeys(given.kernel)]
    chosen = chosen or brought or list(there)
    plugins = [str(Path(one).resolve()) for one in given.plugin]
    found = {}
    try:
        with closing(examined(chosen, plugins, given.limit)) as verdicts:
            for name, words in verdicts:
                found[name] = summary(words)
                if not given.json:
                    show(name, words)
    except KeyboardInterrupt:
        print("\nsparsemark: interrupted. Nothing of a check is kept; start it again.", file=sys.stderr)
        return 130
    if given.json:
        print(json.dumps(found, indent=2))
    return 1 if any(one["failed"] for one in found.values()) else 0


def summary(words: Sequence[Word]) -> dict:
    """How many trials went well, and the sentences on those that did not."""
    counts = {outcome: sum(one.outcome == outcome for one in words) for outcome in ("ok", "refused")}
    return counts | {"failed": [f"{one.trial}: {one.note}" for one in bad(words)]}


def show(name: str, words: Sequence[Word]) -> None:
    """A line a kernel, and the first of its faults."""
    counts, wrong = summary(words), bad(words)
    print(
        f"{name:<28} {counts['ok']:>4} right {counts['refused']:>4} refused {len(wrong):>4} bad", flush=True
    )
    for one in (*wrong[: SHOWN - 1], *wrong[SHOWN - 1 :][-1:]):  # the last may have ended the process
        print(f"    {one.trial}: {one.outcome}: {one.note}", file=sys.stderr)


def bad(words: Sequence[Word]) -> list[Word]:
    return [one for one in words if one.outcome not in ("ok", "refused")]
