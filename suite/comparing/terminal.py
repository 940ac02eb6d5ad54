"""Terminal: the changes as a table, and what all kernels come to."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from suite.comparing import words
from suite.comparing.comparison import Comparison
from suite.comparing.verdicts import AMBIGUOUS, BROKEN, FASTER, GONE, NEW, SAME, SLOWER

COLOURS = {BROKEN: "red", SLOWER: "red", GONE: "red", FASTER: "green", NEW: "blue", AMBIGUOUS: "yellow"}
SHOWN = 40  # changes; the other outputs hold all


def show(found: Comparison, screen: Console) -> None:
    """Everything that is not the same, the means, and the sentence that a gate goes by."""
    screen.print(Text(words.setting(found)), soft_wrap=True)
    for one in found.remarks:
        screen.print(Text("! ", "yellow").append(one, "default"), soft_wrap=True)
    odd = words.of(found, *words.CHANGED, AMBIGUOUS)
    if odd:
        table = titled("", "kernel", "case", "base", "head", "change of time (95 %)", "")
        for verdict, *rest in words.rows(odd[:SHOWN]):
            table.add_row(Text(verdict, COLOURS[verdict]), *map(Text, rest))
        screen.print(table)
    if len(odd) > SHOWN:
        screen.print(f"and {len(odd) - SHOWN} more that are not the same; --json and --markdown hold them")
    if found.means:
        table = titled("kernel", "workload", "cases", "geometric mean of the change (95 %)")
        for one in found.means:
            table.add_row(one.kernel, one.workload, str(one.cases), words.change(one))
        screen.print(table)
    same = words.of(found, SAME)
    screen.print(Text(words.headline(found), "bold"), soft_wrap=True)
    if same:
        screen.print(f"same: {words.meaning(found, SAME)}; {words.watching(same)}", soft_wrap=True)


def titled(*heads: str) -> Table:
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in heads:
        made.add_column(head, overflow="fold")
    return made
