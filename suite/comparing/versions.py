"""Versions: a ref of a repository, checked out beside the working copy, with an environment of its own.

The environment is a virtual one that finds this one's packages after its own: both versions share torch and
everything else that is not built from the ref.
"""

import os
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from suite.registry import Unusable

SHOWN = 20  # last lines of a log

# How a ref of sparsemark itself is installed, unless a command says otherwise.
OWN_BUILD = "python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e ."

SHARED = "zz-shared.pth"  # read after whatever a build installs

# setuptools finds what is installed as editable only where nothing else does, and ours may have the same.
FIRST = (
    "import sys; sys.meta_path.sort("
    "key=lambda one: not str(getattr(one, '__module__', '')).startswith('__editable__'))"
)


class Failed(Exception):
    """A version that cannot be built or run: which, at what, and the last it said."""

    def __init__(self, which: str, step: str, tail: Sequence[str]) -> None:
        super().__init__(f"{which}: {step} failed" + (f": {tail[-1]}" if tail else ""))
        self.which, self.step, self.tail = which, step, list(tail)


@dataclass(frozen=True)
class Version:
    """A ref as it was built: its worktree, its environment, and where its output is kept."""

    ref: str
    commit: str
    folder: Path
    environment: Path
    log: Path
    own: bool = False  # of sparsemark itself: it brings its own instrument

    def __str__(self) -> str:
        return f"{self.ref} {self.commit}" if self.ref != self.commit else self.commit

    def do(self, step: str, words: Sequence[str]) -> str:
        """Run a command there; what it printed. Raises Failed."""
        done = subprocess.run(
            words,
            cwd=self.folder,
            env=self._variables(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(words)}\n{done.stdout}")
        if done.returncode:
            raise Failed(str(self), step, done.stdout.splitlines()[-SHOWN:])
        return done.stdout

    def measure(self, *words: str) -> str:
        """Run sparsemark as this version has it."""
        return self.do("measuring", (str(self.python), "-P", "-m", "suite", *words))

    @property
    def python(self) -> Path:
        return self.environment / "bin" / "python"

    def _variables(self) -> dict[str, str]:
        mine = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        path = f"{self.environment / 'bin'}{os.pathsep}{mine.get('PATH', os.defpath)}"
        return mine | {"VIRTUAL_ENV": str(self.environment), "PATH": path}


@contextmanager
def checked_out(
    repository: Path, ref: str, name: str, build: str | None, at: Path, log: Path
) -> Iterator[Version]:
    """A ref in a worktree below `at`, built. It is gone afterwards. Raises Failed where the build fails."""
    commit = commit_of(repository, ref)
    folder = at / name / "tree"
    git(repository, "worktree", "add", "--quiet", "--detach", "--force", str(folder), commit)
    try:
        made = Version(ref, commit, folder, at / name / "environment", log, is_own(folder))
        furnish(made.environment, nested=not made.own)
        if command := build or (OWN_BUILD if made.own else None):
            made.do("the build", ("sh", "-c", command))
        yield made
    finally:
        git(repository, "worktree", "remove", "--force", str(folder))


def is_own(folder: Path) -> bool:
    """Whether a checkout is of sparsemark itself, and so brings its own instrument."""
    return (folder / "suite" / "record.py").is_file() and (folder / "sparsemark.py").is_file()


def furnish(environment: Path, nested: bool) -> None:
    """An empty environment that finds ours; with what ours has installed as editable too, if `nested`."""
    venv.EnvBuilder(symlinks=True).create(environment)
    (packages,) = (environment / "lib").glob("python*/site-packages")
    ours = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    lines = [f"import site; site.addsitedir({path!r})" if nested else path for path in ours]
    (packages / SHARED).write_text("\n".join((FIRST, *lines)) + "\n")
    pip = environment / "bin" / "pip"
    pip.write_text('#!/bin/sh\nexec "$(dirname "$0")/python" -m pip "$@"\n')
    pip.chmod(0o755)


def root_of(folder: Path) -> Path:
    """The repository a folder is in."""
    return Path(git(folder, "rev-parse", "--show-toplevel"))


def commit_of(repository: Path, ref: str) -> str:
    try:
        return git(repository, "rev-parse", "--short=12", "--verify", "--end-of-options", f"{ref}^{{commit}}")
    except Unusable:
        raise Unusable(f"{ref!r} is no commit of {repository}. `git fetch` may bring it.") from None


def git(folder: Path, *words: str) -> str:
    """What a git command prints. Raises Unusable with what it complains of."""
    try:
        done = subprocess.run(("git", *words), cwd=folder, capture_output=True, text=True)
    except OSError:
        raise Unusable("comparing refs needs git, which is not installed here.") from None
    if done.returncode:
        complaint = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Unusable(f"git {words[0]}: {complaint}")
    return done.stdout.strip()
