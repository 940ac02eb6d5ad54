"""Checking apart: whatever a stranger's kernel does to its process, it is named and the others go on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROGUES = Path(__file__).parent / "rogues.py"
CHECK = (sys.executable, "-m", "suite", "check")
PLUGIN = ("--plugin", str(ROGUES))


def check(*words, **more):
    return subprocess.run((*CHECK, *words, *PLUGIN), capture_output=True, text=True, timeout=300, **more)


def test_each_rogue_is_named_with_what_it_did_and_the_others_go_on():
    dying = ["rogue_segfault", "rogue_exit_hard", "rogue_hang"]
    names = [*dying, "rogue_exit", "rogue_vandal_fixed", "rogue_clock", "rogue_none"]
    done = check(*names, "--json", "--limit", "5s")
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert list(found) == names
    first = {name: found[name]["failed"][0] for name in names[:-1]}
    assert all(says.startswith("spmm/m=17,k=33,n=5/unstructured@0/") for says in first.values())
    assert "the process died of SIGSEGV" in first["rogue_segfault"]
    assert "SystemExit: 0" in first["rogue_exit"]
    assert "the process exited with status 0" in first["rogue_exit_hard"]
    assert "took longer than 5 s" in first["rogue_hang"]
    assert "changes its operand a" in first["rogue_vandal_fixed"]
    assert "it replaces time.perf_counter" in first["rogue_clock"]
    good = found["rogue_none"]
    assert good["ok"] > 100 and not good["failed"]


def test_a_death_is_shown_with_its_trial():
    done = check("rogue_segfault", "rogue_garbage")
    assert done.returncode == 1
    assert "rogue_segfault" in done.stdout and "rogue_garbage" in done.stdout
    assert "unstructured@0/float32/seed=0: broken: the process died of SIGSEGV" in done.stderr
    assert "garbage\ngarbage" not in done.stdout + done.stderr


def test_of_a_plugin_its_own_kernels_are_checked(tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from sparsemark import kernel\n@kernel(op='spmm', only={'n': 1})\n"
        "def mine(a, b):\n    return lambda b: a.dense @ b\n"
    )
    done = subprocess.run((*CHECK, "--plugin", plugin), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout.startswith("mine ") and done.stdout.count("\n") == 1


def test_an_op_without_trials_is_said(tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text("from sparsemark import kernel\n@kernel(op='spmmm')\ndef mine(a, b): ...\n")
    done = subprocess.run(
        (*CHECK, "mine", "--plugin", plugin),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1 and "no trial: broken: KeyError: 'spmmm'" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_an_interrupt_leaves_no_process_behind():
    started = subprocess.Popen((*CHECK, "rogue_hang", *PLUGIN), stderr=subprocess.PIPE, text=True)
    try:
        us, end = psutil.Process(started.pid), time.monotonic() + 120
        while not (children := us.children()) or children[0].memory_info().rss < 1 << 26:
            assert time.monotonic() < end
            time.sleep(0.1)
        os.kill(started.pid, signal.SIGINT)
        _, said = started.communicate(timeout=60)
    finally:
        started.kill()
    assert started.returncode == 130 and "interrupted" in said and "Traceback" not in said
    assert not psutil.wait_procs(children, timeout=10)[1]


def without_numba(folder):
    """An environment in which Numba is not installed."""
    says = 'raise ModuleNotFoundError("No module named \'numba\'", name="numba")\n'
    (folder / "numba.py").write_text(says)
    return {**os.environ, "PYTHONPATH": str(folder)}


def test_a_kernel_whose_library_is_missing_is_refused_with_the_reason(tmp_path):
    says = "needs numba, which is not installed here: pip install numba"
    asked = (
        "from suite.commands import load; load()\n"
        "from suite.case import from_id; from suite.cpu.device import Cpu; from suite.kernel import KERNELS\n"
        "case = from_id('spmm/m=64,k=96,n=8/unstructured@0.5/float32/seed=0')\n"
        "print(KERNELS['spmm_csr_numba'].refusals(case, Cpu()))\n"
    )
    done = subprocess.run(
        (sys.executable, "-P", "-c", asked), capture_output=True, text=True, env=without_numba(tmp_path)
    )
    assert done.stdout.strip() == f"[{says!r}]", done.stderr
    listed = subprocess.run(
        (sys.executable, "-P", "-m", "suite", "list", "--json"),
        capture_output=True,
        text=True,
        env=without_numba(tmp_path),
    )
    entry = json.loads(listed.stdout)["kernels"]["spmm_csr_numba"]
    assert entry["runs"] is False and entry["why_not"] == [says]
    checked = check("spmm_csr_numba", "--json", env=without_numba(tmp_path))
    found = json.loads(checked.stdout)["spmm_csr_numba"]
    assert found["ok"] == 0 and found["refused"] > 100 and not found["failed"]
