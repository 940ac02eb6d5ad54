"""accuracy against sparsity: methods that make models sparse, on tasks, at several seeds

sparsemark study                                  every task and method, default extent
sparsemark study digits_mlp --methods 'magnitude-*' 'random-*'
sparsemark study --methods wanda-erk-finetune     parts put together that are not by default
sparsemark study --plugin mine.py --methods 'mine-*'
sparsemark study cifar10 --data DIR               a task whose data are not embedded
sparsemark study --model DIR --corpus wikitext2.txt            any causal language model of transformers
sparsemark study --model DIR --corpus wikitext2.txt --pruned DIR DIR    checkpoints pruned elsewhere
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from rich import box
from rich.console import Console
from rich.table import Table

from suite import devices
from suite.commands import load
from suite.commands.run import RESULTS, bar, duration, positive
from suite.method import DENSE
from suite.reading.zeros import counted
from suite.record import Score, read
from suite.registry import Unusable
from suite.run import default_file, newest, resume
from suite.study import Progress, Studying, StudyOptions, plan, unheard
from suite.studying import hub
from suite.studying.child import Brought
from suite.workload import EXTENTS

WIDTH = 132  # of a table, where there is no terminal to ask
TRAINED = {"none": "nothing trained", "mask": "masks trained", "weights": "weights trained"}


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", nargs="*", help="tasks to study; all if none is named")
    parser.add_argument(
        "--methods",
        nargs="+",
        default=[],
        metavar="GLOB",
        action="extend",
        help="only those whose name matches",
    )
    parser.add_argument(
        "--extent", choices=EXTENTS, default="default", help="seconds, minutes, or the full grids"
    )
    parser.add_argument("--seeds", type=positive, metavar="N", help="how often everything is done")
    parser.add_argument("--budget", type=duration, metavar="TIME", help="stop after this long: 90s, 10m, 2h")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: results/DEVICE/START.jsonl")
    parser.add_argument(
        "--resume", action="store_true", help="go on with FILE, or with the latest of this device"
    )
    parser.add_argument(
        "--plugin", nargs="+", default=[], metavar="FILE", action="extend", help="Python files to load"
    )
    parser.add_argument("--threads", type=positive, metavar="N", help="models at a time; default: all cores")
    parser.add_argument("--limit", type=duration, default=60.0, metavar="TIME", help="longest trial")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="of a task that reads one: CIFAR-10's binary files"
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="DIR",
        help="a causal language model of transformers, or its name on the hub",
    )
    parser.add_argument("--corpus", type=Path, metavar="FILE", help="the text it is judged on")
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="the text methods see and learn from; default: a tenth of the corpus, which is then not judged",
    )
    parser.add_argument(
        "--pruned",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        action="extend",
        help="checkpoints of the model pruned elsewhere, each beside a random mask as sparse, in place of "
        "methods unless some are named",
    )


def go(given: argparse.Namespace) -> int:
    load(given.plugin)
    device = devices.find_one(devices.CPU, given.threads)
    options = StudyOptions(
        extent=given.extent,
        seeds=given.seeds,
        methods=tuple(given.methods),
        tasks=tuple(given.task),
        budget=given.budget,
        limit=given.limit,
        plugins=tuple(str(Path(one).resolve()) for one in given.plugin),
        brought=brought(given),
        data=given.data and str(given.data.resolve()),
    )
    lots = plan(options)
    due = [trial for one in lots for trial in one.trials]
    if all(trial.unfit for trial in due):
        names, why = " ".join(given.methods), f": {due[0].unfit}" if due else ""
        raise Unusable(f"--methods {names}: no method of that name is meant for these tasks' patterns{why}.")
    file = (
        given.out
        or (given.resume and newest(RESULTS / device.key, study=True))
        or default_file(RESULTS, device)
    )
    earlier = resume(file, device, options) if given.resume else []
    if not given.resume and file.exists():
        raise Unusable(f"--out {file} exists. Name another file, or add --resume to go on with it.")
    screen = Console(stderr=True)
    with bar(screen) as shown:
        task = shown.add_task("", total=None, note="")
        studying = Studying(
            lots, device, options, file, lambda where: tell(shown, task, where, screen), earlier
        )
        about = f"{device.threads} at a time: {studying.total} models"
        screen.print(f"[bold]{device.name}[/], {about}", highlight=False)
        for sentence in unheard(options, lots):
            screen.print(sentence, highlight=False, markup=False)
        try:
            studying.go()
        except KeyboardInterrupt:
            print(f"\nInterrupted. What was tried is in {file}; --resume goes on with it.", file=sys.stderr)
            return 130
    screen = Console()
    screen = screen if screen.is_terminal else Console(width=WIDTH)
    scores = [line for line in read(file).lines if isinstance(line, Score)]
    show(scores, screen)
    for one in counted(scores):
        screen.print(f"zeros of {one.method}: {one}", highlight=False)
    failed = sum(one.outcome not in ("ok", "refused") for one in scores)
    print(f"{len(scores)} models{f', {failed} of them failed' if failed else ''}, in {file}")
    return 0


def brought(given: argparse.Namespace) -> Brought | None:
    """The user's model and texts."""
    rest = {"--corpus": given.corpus, "--calibration": given.calibration, "--pruned": given.pruned}
    if given.model is None:
        if wrong := [option for option, value in rest.items() if value]:
            raise Unusable(f"{wrong[0]} says something of a model. Name its folder with --model.")
        return None
    if given.corpus is None:
        raise Unusable("--model needs a text to be judged on. Name a file with --corpus.")
    return Brought(
        model=str(hub.folder(given.model).resolve()),
        corpus=str(given.corpus.resolve()),
        calibration=given.calibration and str(given.calibration.resolve()),
        pruned=tuple(str(hub.folder(one).resolve()) for one in given.pruned),
    )


def tell(shown, task, where: Progress, screen: Console) -> None:
    note = f"{where.left / 60:.1f} min left: {where.trial}"
    shown.update(task, completed=where.done, total=where.total, note=note)
    shown.refresh()
    if not screen.is_terminal and (where.done % 100 == 0 or where.done == where.total):
        print(f"{where.done}/{where.total}  {note}", file=sys.stderr, flush=True)


def show(scores: Sequence[Score], screen: Console) -> None:
    """A table for each task and for each thing that is trained: these rank apart."""
    found = [one for one in scores if one.outcome == "ok"]
    for task in dict.fromkeys(one.task for one in found):
        mine = [one for one in found if one.task == task]
        dense = [one.value for one in mine if one.method == DENSE.name and one.value is not None]
        for training, words in TRAINED.items():
            some = [one for one in mine if one.training == training and one.method != DENSE.name]
            if some:
                kind = f"{task} (toy)" if some[0].toy else task
                about = f"{some[0].metric}, mean of {len(dense)}, dense {fmean(dense):.3f}"
                screen.print(f"\n[bold]{kind}[/], {words}: {about}", highlight=False)
                screen.print(table(some))


def table(scores: Sequence[Score]) -> Table:
    """Methods by patterns: the mean over the seeds; first who is least behind the columns' best."""
    cells: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in scores:
        if one.value is not None:
            cells[one.method][one.pattern].append(one.value)
    means = {name: {at: fmean(of) for at, of in row.items()} for name, row in cells.items()}
    best = max if scores[0].better == "higher" else min
    tops = {
        one.pattern: best(row[one.pattern] for row in means.values() if one.pattern in row) for one in scores
    }
    behind = {name: fmean(abs(row[at] - tops[at]) for at in row) for name, row in means.items()}
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    made.add_column("method", no_wrap=True)
    patterns = sorted({one.pattern for one in scores}, key=lambda text: (headed(text)[-1] != "%", text))
    for pattern in patterns:
        made.add_column(headed(pattern), justify="right", no_wrap=True)
    for name in sorted(means, key=lambda name: behind[name]):
        made.add_row(name, *(f"{means[name][at]:.3f}" if at in means[name] else "" for at in patterns))
    return made


def headed(pattern: str) -> str:
    """A pattern above its column: of the commonest, its sparsity alone."""
    name, _, sparsity = pattern.partition("@")
    return f"{100 * float(sparsity):g} %" if name == "unstructured" else pattern
