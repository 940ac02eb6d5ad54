"""Apart: a child process that tells by a pipe what it does; however it ends, its parent learns how.

What kernels do to a process (crash, hang, exit, print, starve) they do to this one.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import monotonic
from typing import Generic, TypeVar

import msgspec

from suite.record import Outcome

LOOK = 0.5  # seconds between looks at a silent child


class Job(msgspec.Struct, kw_only=True):
    """What a child is told. These fields are its parent's to fill in."""

    pipe: int = 0  # the descriptor to tell by
    parent: int = 0  # to be outlived by no child
    folder: str = ""  # scratch, gone with the child


Message = TypeVar("Message")
Told = TypeVar("Told", bound=Job)


class Child(Generic[Message]):
    """`python -P -m module JOB`, in a session of its own. Leaving it leaves no process and no file behind.

    end: once its messages have ended, the outcome and the sentence that its end means; a child that did all
    it was told exits with status 0, which only its parent can tell from one that was made to.
    """

    def __init__(
        self, module: str, job: Job, tells: type[Message], environment: Mapping[str, str] | None = None
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sparsemark-")
        self.folder = Path(self._folder.name)
        self.end: tuple[Outcome, str] = "broken", "the process did not start"
        self._decoder = msgspec.json.Decoder(tells)
        self._heard = monotonic()
        self._pipe, theirs = os.pipe()
        job.pipe, job.parent, job.folder = theirs, os.getpid(), str(self.folder)
        (self.folder / "job.json").write_bytes(msgspec.json.encode(job))
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                (sys.executable, "-P", "-m", module, str(self.folder / "job.json")),
                stdin=subprocess.DEVNULL,
                stdout=log,  # a kernel may print what it likes
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                pass_fds=(theirs,),
                start_new_session=True,  # Ctrl-C is the parent's to handle
            )
        os.close(theirs)

    @property
    def silence(self) -> float:
        """Seconds since it last told anything."""
        return monotonic() - self._heard

    def messages(self, overdue: Callable[[], str | None], limit: float) -> Iterator[Message]:
        """What it tells, as it comes. It is killed once `overdue`, asked while it is silent, says why."""
        torn = b""
        while True:
            ready, _, _ = select.select([self._pipe], [], [], LOOK)
            if ready:
                got = os.read(self._pipe, 1 << 20)
                if not got:
                    break
                self._heard = monotonic()
                *whole, torn = (torn + got).split(b"\n")
                for text in whole:
                    try:
                        message = self._decoder.decode(text)
                    except msgspec.DecodeError:
                        return self._killed("broken", "something wrote into the suite's own pipe")
                    yield message
            elif self._process.poll() is not None:
                break  # something it started still holds the pipe
            elif why := overdue():
                return self._killed("timeout", why)
        try:
            self._process.wait(limit)
        except subprocess.TimeoutExpired:
            return self._killed("timeout", f"closed the suite's pipe and did not end in {limit:g} s")
        self.end = self._death()
        return None

    def _killed(self, outcome: Outcome, note: str) -> None:
        self._kill()
        self.end = outcome, note

    def _death(self) -> tuple[Outcome, str]:
        """What the exit status says."""
        code = self._process.returncode
        if code == -signal.SIGKILL:
            return "memory", "the system killed the process (SIGKILL), most likely for want of memory"
        if code < 0:
            return "broken", f"the process died of {signal.Signals(-code).name}"
        words = (self.folder / "log").read_bytes()[-400:].decode(errors="replace").strip().splitlines()
        return "broken", f"the process exited with status {code}" + (f": {words[-1]}" if words else "")

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """End it, however far it is."""
        self._kill()
        os.close(self._pipe)
        self._folder.cleanup()

    def __enter__(self) -> "Child[Message]":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def told(file: str, kind: type[Told]) -> Told:
    """In a child: the job in this file. From here on the child dies with its parent."""
    job = msgspec.json.decode(Path(file).read_bytes(), type=kind)
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != job.parent:  # it was gone before that
            os._exit(1)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")  # the memory killer is to start here
    os.set_inheritable(job.pipe, False)
    return job


def limit_memory(most: int) -> None:
    """In a child: let an allocation fail that the machine cannot hold, before the system kills somebody."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + most, resource.getrlimit(resource.RLIMIT_AS)[1]))
