"""In a notebook: the public module alone, in a process of its own, as the README shows it."""

import subprocess
import sys

CELL = """
import sparsemark
import torch

def mine(a, b):
    held = a.scipy()
    return lambda b: torch.from_numpy(held @ b.numpy())

def off(a, b):
    return lambda b: mine(a, b)(b) * 1.01

case = sparsemark.case("spmm", sparsemark.pattern("2:4"), m=64, k=64, n=8)
frame = sparsemark.run(case, kernels=[mine, off, "spmm_csr_tiled"], visits=2, seconds=0.01)
rows = frame.set_index("kernel")
assert rows.outcome["mine"] == "ok" and rows.visits["mine"] == 2
assert rows.speed_up["mine"] > 0
assert rows.outcome["off"] == "wrong" and "times the error" in rows.note["off"]
assert rows.dense.any()
assert len(sparsemark.plot.speed_up(frame).axes) == 1
again = sparsemark.run(str(case), kernels=["spmm_csr_scipy"], visits=1, seconds=0.01)
assert set(again[~again.dense].kernel) == {"spmm_csr_scipy"}
"""


def test_a_function_from_a_cell_is_measured_beside_the_dense_kernels():
    done = subprocess.run((sys.executable, "-P", "-c", CELL), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
