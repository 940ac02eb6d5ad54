"""Peers: other people's kernels, which are there or say what they want, and leave the process as it was."""

import os
import subprocess
import sys

import pytest

from suite.case import case
from suite.cpu import topology
from suite.cpu.device import Cpu
from suite.kernel import KERNELS, Refused
from suite.op import discover_parts, make_operands
from suite.patterns.unstructured import Unstructured
from suite.registry import discover

discover_parts()
discover(folders=("kernels",))

from suite.kernels.spmm import spmm_csr_mkl as mkl  # noqa: E402  once the folders are found

SMALL = case("spmm", Unstructured(0.5), m=17, k=33, n=5)

ALONE = """
import torch
from suite import native
from suite.kernel import KERNELS
from suite.op import discover_parts, make_operands
from suite.registry import discover
from suite.case import from_id
discover_parts()
discover(folders=("kernels",))
a, b = make_operands(from_id("spmm/m=400,k=300,n=64/unstructured@0.9/float32/seed=0"))
torch.mm(b.t(), b)
before = native.runtimes()
KERNELS["spmm_csr_mkl"].prepare(a, b).run(b)
print("same" if native.runtimes() == before else native.runtimes())
"""


@pytest.mark.parametrize("missing", ["package", "library"])
def test_mkl_that_is_not_installed_is_refused_with_what_to_do(missing, monkeypatch):
    monkeypatch.setattr(mkl, "find_spec", lambda name: None if missing == "package" else object())
    monkeypatch.setattr(mkl, "INSTALLED", [] if missing == "library" else [object()])
    (reason,) = KERNELS["spmm_csr_mkl"].refusals(SMALL, Cpu())
    assert reason.startswith("needs sparse_dot_mkl and mkl") and "pip install" in reason


def test_mkl_that_does_not_load_is_refused_with_why(monkeypatch):
    def broken():
        raise ImportError("libmkl_core.so.3: no such file")

    monkeypatch.setattr(mkl, "library", broken)
    with pytest.raises(Refused, match=r"does not load here: libmkl_core\.so\.3: no such file"):
        KERNELS["spmm_csr_mkl"].prepare(*make_operands(SMALL))


@pytest.mark.skipif(sys.platform != "linux", reason="OpenMP runtimes are told from /proc")
def test_mkl_brings_no_second_openmp_runtime():
    if reasons := KERNELS["spmm_csr_mkl"].refusals(SMALL, Cpu()):
        pytest.skip("; ".join(reasons))
    child = {**os.environ, **topology.environment(2)}
    said = subprocess.run(
        [sys.executable, "-c", ALONE], env=child, capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "same", said.stderr
