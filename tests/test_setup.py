"""`.ci/setup`: an environment's own torch is never replaced, and what is made anew is pinned."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Stands in for an environment's python: answers for torch, and keeps the constraints pip was given.
STUB = """#!/bin/sh
case "$*" in
  *"-m pip install"*)
    while [ $# -gt 0 ]; do [ "$1" = --constraint ] && cp "$2" "$0.constraints"; last=$1; shift; done
    echo "installed $last" >> "$0.log";;
  *"print(torch.__version__)"*) [ -n "{torch}" ] && echo "{torch}" || exit 1;;
  *"import sys, torch"*) exit {old};;
  *"torch.version.cuda"*) echo "{cuda}";;
  *"import cupy"*) exit 1;;
esac
"""


@pytest.fixture
def checkout(tmp_path):
    """A checkout in a folder whose name has a space, as far as setup looks at it."""
    folder = tmp_path / "a checkout"
    (folder / ".ci").mkdir(parents=True)
    for name in ("pyproject.toml", "setup.py", ".ci/setup", ".ci/constraints.txt"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def environment(folder, torch="", old=0, cuda=""):
    """An environment that holds this torch."""
    python = folder / "an env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(STUB.format(torch=torch, old=old, cuda=cuda))
    python.chmod(0o755)
    return python


def setup(checkout, venv):
    return subprocess.run((checkout / ".ci/setup", venv, "numba"), capture_output=True, text=True, cwd="/")


def test_an_environments_torch_is_kept_and_nothing_else_is_pinned(checkout):
    python = environment(checkout, "2.12.1+cu130")
    done = setup(checkout, "an env")
    assert done.returncode == 0, done.stderr
    assert Path(f"{python}.constraints").read_text() == "torch==2.12.1+cu130\n"


def test_an_old_torch_is_not_replaced_either(checkout):
    python = environment(checkout, "2.9.0", old=1)
    done = setup(checkout, "an env")
    assert done.returncode == 4
    assert "has torch 2.9.0, sparsemark needs 2.11 or newer" in done.stderr
    assert not Path(f"{python}.log").exists()


def test_without_torch_everything_is_pinned(checkout):
    python = environment(checkout)
    assert setup(checkout, "an env").returncode == 0
    assert Path(f"{python}.constraints").read_text() == (ROOT / ".ci/constraints.txt").read_text()


def test_a_ready_environment_is_left_alone_until_its_needs_change(checkout):
    python = environment(checkout, "2.13.0")
    log = Path(f"{python}.log")
    for _ in range(3):
        assert setup(checkout, "an env").returncode == 0
    assert log.read_text().splitlines() == ["installed .[numba]"]
    later = os.stat(log).st_mtime + 10
    os.utime(checkout / "pyproject.toml", (later, later))
    assert setup(checkout, "an env").returncode == 0
    assert log.read_text().splitlines() == ["installed .[numba]"] * 2


def test_no_fitting_python_is_said_plainly(checkout):
    words = (checkout / ".ci/setup", "new env", "numba")
    done = subprocess.run(
        words, capture_output=True, text=True, env={"PATH": os.environ["PATH"], "PYTHON": "no-such-python"}
    )
    assert done.returncode == 4
    assert "needs Python 3.11 to 3.13" in done.stderr


def test_where_torch_can_use_a_gpu_cupy_of_the_same_cuda_is_installed(checkout):
    python = environment(checkout, "2.12.1+cu130", cuda="13")
    assert setup(checkout, "an env").returncode == 0
    assert Path(f"{python}.log").read_text().splitlines() == [
        "installed .[numba]",
        "installed .[numba,cuda13]",
    ]
