"""Isolation: a child process measures; however it ends, its parent knows on which kernel and how."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import msgspec

from suite.child import Event, Job
from suite.pulse import NOBODY, Pulse
from suite.record import Outcome
from suite.registry import Unusable
from suite.visit import STAGES

LOOK = 0.5  # seconds between looks at a child's pulse
WHOLE_CASE = 10  # times the limit for what is no kernel's fault: operands, reference, imports


@dataclass(frozen=True)
class Ending:
    """How a child ended before its work was done: at which case and kernel (indices, None: at none)."""

    outcome: Outcome
    note: str
    case: int | None
    kernel: int | None


class Offspring:
    """A running child. Iterate over its events; afterwards `ending` is None if it finished its work."""

    def __init__(self, job: Job, environment: Mapping[str, str], limit: float) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sparsemark-")
        folder = Path(self._folder.name)
        self._limit = limit
        self._cases = len(job.work)
        self._pulse = Pulse(folder / "pulse", make=True)
        self._log = folder / "log"
        self._pipe, theirs = os.pipe()
        job.pipe, job.pulse, job.parent = theirs, str(folder / "pulse"), os.getpid()
        (folder / "job.json").write_bytes(msgspec.json.encode(job))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                (sys.executable, "-P", "-m", "suite.child", str(folder / "job.json")),
                stdin=subprocess.DEVNULL,
                stdout=log,  # a kernel may print what it likes
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                pass_fds=(theirs,),
                start_new_session=True,  # Ctrl-C is the parent's to handle
            )
        os.close(theirs)
        self.ending: Ending | None = None

    def events(self) -> Iterator[Event]:
        """What the child tells, as it comes. Ends with the child, which is killed when it hangs."""
        torn, done = b"", 0
        beats, since = -1, monotonic()
        while True:
            ready, _, _ = select.select([self._pipe], [], [], LOOK)
            if ready:
                got = os.read(self._pipe, 1 << 20)
                if not got:
                    break
                *whole, torn = (torn + got).split(b"\n")
                for text in whole:
                    try:
                        event = msgspec.json.decode(text, type=Event)
                    except msgspec.DecodeError:
                        self._kill()
                        self.ending = self._ended("broken", "something wrote into the suite's own pipe")
                        return
                    if event.fatal:
                        raise Unusable(event.fatal)
                    done += event.done is not None
                    yield event
                continue
            now, _, kernel, stage = self._pulse.read()
            if now != beats:
                beats, since = now, monotonic()
            patience = self._limit if kernel != NOBODY else WHOLE_CASE * self._limit
            if monotonic() - since > patience:
                self._kill()
                self.ending = self._ended("timeout", f"took longer than {patience:g} s {STAGES[stage]}")
                return
        try:
            self._process.wait(self._limit)
        except subprocess.TimeoutExpired:  # it has closed our pipe and lives on
            self._kill()
            self.ending = self._ended(
                "timeout", f"closed the suite's pipe and did not end in {self._limit:g} s"
            )
            return
        if self._process.returncode or torn or done < self._cases:
            self.ending = self._ended(*self._death())

    def _ended(self, outcome: Outcome, note: str) -> Ending:
        _, case, kernel, _ = self._pulse.read()
        none = NOBODY
        return Ending(outcome, note, None if case == none else case, None if kernel == none else kernel)

    def _death(self) -> tuple[Outcome, str]:
        """What the exit status says."""
        stage, code = STAGES[self._pulse.read()[3]], self._process.returncode
        if code >= 0:
            return "broken", f"the process exited with status {code} {stage}{self._last_words()}"
        name = signal.Signals(-code).name
        if -code == signal.SIGKILL:
            return (
                "memory",
                f"the system killed the process {stage} (SIGKILL), most likely for want of memory",
            )
        return "broken", f"the process died of {name} {stage}"

    def _last_words(self) -> str:
        words = self._log.read_bytes()[-400:].decode(errors="replace").strip().splitlines()
        return f": {words[-1]}" if words else ""

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Leave nothing behind: no process, no file."""
        self._kill()
        os.close(self._pipe)
        self._pulse.close()
        self._folder.cleanup()

    def __enter__(self) -> "Offspring":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
