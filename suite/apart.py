"""Apart: kernels are examined in a child process; one that ends it or hangs is named, the others go on."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from time import monotonic

import msgspec

from suite.examiner import Paper, Word
from suite.registry import Unusable

LOOK = 0.5  # seconds between looks at whether a silent child still lives
STARTING = 120.0  # seconds it may take to import everything, which is no kernel's fault


def examined(
    kernels: Sequence[str], plugins: Sequence[str], limit: float
) -> Generator[tuple[str, list[Word]]]:
    """Each kernel with the words on its trials, as soon as it is done.

    One that dies or takes longer than `limit` seconds over a trial has that as its last word: its other
    trials are left out, and a fresh child examines the kernels after it.
    """
    left = list(kernels)
    while left:
        with Examination(left, plugins, limit) as one:
            for name, words in one.verdicts():
                left.remove(name)
                yield name, words


class Examination:
    """A running examiner; leaving it leaves no process and no file behind."""

    def __init__(self, kernels: Sequence[str], plugins: Sequence[str], limit: float) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sparsemark-")
        self._limit = limit
        self._pipe, theirs = os.pipe()
        self._log, paper = Path(self._folder.name, "log"), Path(self._folder.name, "paper.json")
        asked = Paper(list(kernels), list(plugins), pipe=theirs, parent=os.getpid())
        paper.write_bytes(msgspec.json.encode(asked))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                (sys.executable, "-P", "-m", "suite.examiner", str(paper)),
                stdin=subprocess.DEVNULL,
                stdout=log,  # a kernel may print what it likes
                stderr=subprocess.STDOUT,
                env={"OMP_WAIT_POLICY": "passive", **os.environ},  # threads that spin are for timing
                pass_fds=(theirs,),
                start_new_session=True,  # Ctrl-C is the parent's to handle
            )
        os.close(theirs)
        self._end = ""  # the outcome and the sentence, if it did not live to say all
        self._note = ""

    def verdicts(self) -> Iterator[tuple[str, list[Word]]]:
        """Each kernel it got to, the one that ended it included."""
        heard: list[Word] = []
        last = None
        for last in self._words():
            if last.outcome:
                heard.append(last)
            if last.done:
                yield last.kernel, heard
                heard = []
        if last is None:
            raise Unusable(f"no kernel could be examined: {self._note}.")
        if not last.done:
            yield last.kernel, [*heard, Word(last.kernel, last.trial or "no trial", self._end, self._note)]

    def _words(self) -> Iterator[Word]:
        """What the child says, as it comes. Ends with it; it is killed when it is silent too long."""
        torn, since, patience = b"", monotonic(), STARTING
        while True:
            ready, _, _ = select.select([self._pipe], [], [], LOOK)
            if ready:
                got = os.read(self._pipe, 1 << 20)
                if not got:
                    break
                since, patience = monotonic(), self._limit
                *whole, torn = (torn + got).split(b"\n")
                for text in whole:
                    try:
                        word = msgspec.json.decode(text, type=Word)
                    except msgspec.DecodeError:
                        self._kill()
                        self._end, self._note = "broken", "it wrote into the suite's own pipe"
                        return
                    yield word
            elif self._process.poll() is not None:
                break  # something it started still holds the pipe
            elif monotonic() - since > patience:
                self._kill()
                self._end, self._note = "timeout", f"took longer than {patience:g} s"
                return
        try:
            self._process.wait(self._limit)
        except subprocess.TimeoutExpired:  # it has closed our pipe and lives on
            self._kill()
            self._end, self._note = "timeout", f"closed the suite's pipe and did not end in {self._limit:g} s"
            return
        self._end, self._note = self._death()

    def _death(self) -> tuple[str, str]:
        """The outcome and the sentence that an exit status means."""
        code = self._process.returncode
        if code == -signal.SIGKILL:
            return "memory", "the system killed the process (SIGKILL), most likely for want of memory"
        if code < 0:
            return "broken", f"the process died of {signal.Signals(-code).name}"
        words = self._log.read_bytes()[-400:].decode(errors="replace").strip().splitlines()
        return "broken", f"the process exited with status {code}" + (f": {words[-1]}" if words else "")

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> "Examination":
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()
        os.close(self._pipe)
        self._folder.cleanup()
