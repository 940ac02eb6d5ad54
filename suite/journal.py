"""Journal: the results file of a run as it grows, and what it says is done.

`--resume` and a child that died need the same knowledge: which lines are there, which kernels failed on which
cases, and which of them end their process again and again.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from suite.isolate import Ending
from suite.record import Any_Line, Result, Writer

STRIKES = 3  # a kernel that hangs or ends its process on so many cases is not tried on more


class Journal:
    """Appends lines, and answers what is still to be measured."""

    def __init__(self, file: Path, earlier: Iterable[Any_Line] = ()) -> None:
        self.results: list[Result] = []
        self._done: set[tuple] = set()
        self._failed: set[tuple[str, str]] = set()  # (case, entry): not to be tried again
        self._strikes: Counter[str] = Counter()
        for line in earlier:
            self._remember(line)
        self._writer = Writer(file)

    def add(self, line: Any_Line) -> None:
        """A line, on disk before this returns.

        One that is there already stays: what was seen in a layer is measured again if the line of its kernel
        was lost.
        """
        if isinstance(line, Result) and line.key in self._done:
            return
        self._writer.write(line)
        self._remember(line)

    def struck(self, entry: str) -> None:
        """A process ended in this kernel, or version of a model."""
        self._strikes[entry] += 1

    def is_due(self, key: tuple) -> bool:
        """Whether this (case, entry, hash, cache, threads, visit, scope) is to be measured."""
        case, entry, *_ = key
        return key not in self._done and (case, entry) not in self._failed

    def is_out(self, entry: str) -> bool:
        """Whether this kernel, or version of a model, has ended too many processes."""
        return self._strikes[entry] >= STRIKES

    def close(self) -> None:
        self._writer.close()

    def _remember(self, line: Any_Line) -> None:
        if not isinstance(line, Result):
            return
        self.results.append(line)
        self._done.add(line.key)
        if line.outcome != "ok" and line.scope != "layer":
            self._failed.add((line.case, line.entry))


OUT = Ending("refused", f"not tried: it ended its process on {STRIKES} other cases", None, None)
