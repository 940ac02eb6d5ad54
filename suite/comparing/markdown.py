"""Markdown: a comment on a pull request: what changed first, everything else folded away."""

from collections.abc import Iterable, Sequence

from suite.comparing import words
from suite.comparing.comparison import Comparison
from suite.comparing.verdicts import AMBIGUOUS, SAME

ROOM = 60_000  # characters; a comment on GitHub holds 65,536
SHARES = {"changed": 0.6, AMBIGUOUS: 0.2, SAME: 0.2}  # of the room

HEADS = ("kernel", "case", "base", "head", "change of time (95 %)", "")
MEANS = ("kernel", "workload", "cases", "geometric mean of the change (95 %)")


def markdown(found: Comparison) -> str:
    """The whole comment. What has no room is counted, and in the other outputs."""
    changed = words.of(found, *words.CHANGED)
    parts = [f"### sparsemark: {words.headline(found)}", plain(words.setting(found))]
    parts += [f"> {plain(one)}" for one in found.remarks]
    if changed:
        lines = [
            (f"**{one.verdict}**", *cells)
            for one, cells in zip(changed, escaped(cells[1:] for cells in words.rows(changed)), strict=True)
        ]
        parts.append(table(("", *HEADS), lines, "changed"))
    else:
        parts.append("Nothing changed.")
    for verdict in (AMBIGUOUS, SAME):
        if some := words.of(found, verdict):
            title = f"{len(some)} {verdict.lower()}: {words.meaning(found, verdict)}"
            watched = words.watching(some)
            lines = escaped(cells[1:] for cells in words.rows(some))
            parts.append(folded(f"{title}; {watched}" if watched else title, table(HEADS, lines, verdict)))
    if found.means:
        lines = [(one.kernel, one.workload, str(one.cases), words.change(one)) for one in found.means]
        parts.append(folded("Geometric means by kernel and workload", table(MEANS, escaped(lines), SAME)))
    return "\n\n".join(parts) + "\n"


def folded(title: str, body: str) -> str:
    return f"<details><summary>{plain(title)}</summary>\n\n{body}\n\n</details>"


def table(heads: Sequence[str], lines: Iterable[Sequence[str]], kind: str) -> str:
    """Rows while there is room for them."""
    made = [row(heads), row(["---"] * len(heads))]
    left, out = ROOM * SHARES[kind], 0
    for cells in lines:
        text = row(cells)
        left -= len(text.encode()) + 1
        if left < 0:
            out += 1
        else:
            made.append(text)
    return "\n".join(made) + (f"\n\nand {out} more" if out else "")


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escaped(lines: Iterable[Sequence[str]]) -> list[list[str]]:
    """Kernel and case, or kernel and workload, as code to copy; the rest as text."""
    return [[code(first), code(second), *map(plain, rest)] for first, second, *rest in lines]


def code(text: str) -> str:
    shown = " ".join(text.split()).replace("`", "'").replace("|", "\\|")
    return f"`{shown}`"


def plain(text: str) -> str:
    """As text and nothing else: what a kernel says of its failure is a stranger's."""
    text = " ".join(text.split()).replace("\\", "\\\\")
    for mark in "|`*_[]~":
        text = text.replace(mark, f"\\{mark}")
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # No one is to be called, and no link made, by what stands in a results file.
    return (
        text.replace("@", "@\N{ZERO WIDTH NON-JOINER}")
        .replace("://", ":\N{ZERO WIDTH NON-JOINER}//")
        .replace("#", "#\N{ZERO WIDTH NON-JOINER}")
    )
