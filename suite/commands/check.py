"""the registry's correctness tests on any kernel, a stranger's too; nothing is timed

sparsemark check                                  every kernel that runs here
sparsemark check --plugin mine.py spmm_csr_mine   one of your own
"""

import argparse
import json
import sys

from suite import conformance
from suite.commands import load
from suite.cpu import Cpu
from suite.kernel import KERNELS
from suite.registry import pick


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kernel", nargs="*")
    parser.add_argument("--plugin", nargs="+", default=[], metavar="FILE", action="extend")
    parser.add_argument("--json", action="store_true", help="for a program")


def go(given: argparse.Namespace) -> int:
    load(given.plugin)
    device = Cpu()
    chosen = [pick("kernel", name, KERNELS) for name in given.kernel] or list(KERNELS.values())
    found, failed = {}, 0
    for kernel in chosen:
        verdicts = [conformance.examine(kernel, trial, device) for trial in conformance.cases_for(kernel)]
        bad = [one for one in verdicts if one.outcome not in ("ok", "refused")]
        counts = {outcome: sum(one.outcome == outcome for one in verdicts) for outcome in ("ok", "refused")}
        found[kernel.name] = counts | {"failed": [f"{one.trial}: {one.note}" for one in bad]}
        failed += bool(bad)
        if not given.json:
            print(
                f"{kernel.name:<28} {counts['ok']:>4} right {counts['refused']:>4} refused {len(bad):>4} bad"
            )
            for one in bad[:5]:
                print(f"    {one.trial}: {one.outcome}: {one.note}", file=sys.stderr)
    if given.json:
        print(json.dumps(found, indent=2))
    return 1 if failed else 0
