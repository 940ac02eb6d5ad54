"""pytest-benchmark's side, as a user has it: the wheel installed elsewhere, a test file of their own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from suite.comparing.side import side
from suite.pytest_plugin import Clock
from suite.reading.frame import read
from suite.reading.opened import opened

ROOT = Path(__file__).parent.parent

USER = """
import numpy as np
import pytest
import scipy.sparse
import torch

rng = np.random.default_rng(0)
A = scipy.sparse.random(256, 192, 0.05, "csr", "float32", random_state=0)
B = torch.from_numpy(rng.standard_normal((192, 8)).astype("float32"))


def test_scipys(sparse_benchmark):
    found = sparse_benchmark(lambda b: torch.from_numpy(A @ b.numpy()), A, B, holds=(A,))
    assert found.seconds > 0 and found.best_dense.kernel.startswith("spmm_dense") and found.speed_up > 0


@pytest.mark.benchmark(group="mine")
@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_torchs(sparse_benchmark, kind):
    dense = torch.from_numpy(A.toarray())
    held = dense if kind == "dense" else dense.to_sparse_csr()
    sparse_benchmark(lambda b: held @ b, held, B, holds=(held,), cache="hot")


def test_of_others(benchmark):
    benchmark(sum, [1, 2])
"""

OTHER_OPS = """
import torch

torch.manual_seed(0)


def test_gradient(sparse_benchmark):
    mask, dy, x = torch.rand(96, 64) < 0.1, torch.randn(96, 8), torch.randn(64, 8)
    rows, columns = mask.nonzero(as_tuple=True)
    call = lambda dy, x: (dy[rows] * x[columns]).sum(1)
    found = sparse_benchmark(call, mask, dy, x, op="sddmm", holds=(rows, columns))
    assert found.best_dense.kernel.startswith("sddmm_dense") and found.speed_up > 0


def test_attention(sparse_benchmark):
    blocks = torch.eye(4, dtype=torch.bool).repeat(2, 1)
    seen = blocks.view(2, 4, 4).repeat_interleave(16, 1).repeat_interleave(16, 2)

    def call(q, k, v):
        scores = q @ k.transpose(1, 2) / 32**0.5
        return scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v

    found = sparse_benchmark(call, blocks, *torch.randn(3, 2, 64, 32), op="attention", holds=(seen,))
    assert found.line.sizes == {"h": 2, "g": 2, "n": 64, "d": 32, "b": 16} and found.speed_up > 0


def test_experts(sparse_benchmark):
    up, down = torch.randn(4, 16, 12) / 4, torch.randn(4, 12, 8) / 3
    x, logits = torch.randn(6, 12), torch.randn(6, 4)
    route = torch.zeros(4, 6).scatter_(0, logits.topk(2).indices.t(), 1.0)

    def call(x, logits):
        best, experts = logits.topk(2)
        gates = torch.zeros_like(logits).scatter_(1, experts, best.softmax(-1))
        gate, wide = torch.einsum("nd,efd->nef", x, up).chunk(2, -1)
        hidden = torch.nn.functional.silu(gate) * wide * gates[..., None]
        return torch.einsum("nef,edf->nd", hidden, down)

    found = sparse_benchmark(call, route, up, down, x, logits, op="moe", holds=(up, down))
    assert found.line.sparsity == 0.5 and found.speed_up > 0
"""

ROGUES = """
import torch

A, B = torch.eye(16), torch.ones(16, 4) * torch.arange(4)


def test_wrong(sparse_benchmark):
    sparse_benchmark(lambda b: b + 1, A, B)


def test_cached(sparse_benchmark):
    kept = []

    def once(b):
        kept or kept.append((A @ b).clone())
        return kept[0].clone()

    sparse_benchmark(once, A, B)


def test_aliased(sparse_benchmark):
    sparse_benchmark(lambda b: b, A, B)


def test_lazy(sparse_benchmark):
    sparse_benchmark(lambda b: lambda: A @ b, A, B)


def test_clock(sparse_benchmark, monkeypatch):
    import time

    def run(b):
        monkeypatch.setattr(time, "perf_counter", lambda: 0.0)
        return A @ b

    sparse_benchmark(run, A, B)


def test_right(sparse_benchmark):
    assert sparse_benchmark(lambda b: A @ b, A, B).seconds > 0


def test_shapes(sparse_benchmark):
    sparse_benchmark(lambda b: b, A, B.T)


def test_other_op(sparse_benchmark):
    sparse_benchmark(lambda dy, x: dy[:, 0] * x[:, 0], A, B, B, op="sddmm")


def test_nobodys_op(sparse_benchmark):
    sparse_benchmark(lambda b: b, A, B, op="gemm")


def test_not_numbers(sparse_benchmark):
    sparse_benchmark(lambda b: A @ b, A, B / 0)


def test_lukewarm(sparse_benchmark):
    sparse_benchmark(lambda b: A @ b, A, B, cache="lukewarm")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel is installed, and nothing else."""
    pytest.importorskip("setuptools", reason="needs setuptools, and building must not fetch it")
    copy, folder = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("site")
    names = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "sparsemark.py")
    for name in (*names, "suite", "kernels", "workloads", "reports"):
        subprocess.run(("cp", "-r", str(ROOT / name), str(copy)), check=True)
    pip = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation")
    subprocess.run((*pip, "--target", str(folder), str(copy)), check=True, capture_output=True)
    return folder


def run(site: Path, folder: Path, *words: str) -> subprocess.CompletedProcess:
    """pytest in a folder of the user's, with what is installed and no more."""
    words = ("-q", "-p", "no:cacheprovider", *words)
    alone = {name: said for name, said in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    return subprocess.run(
        (sys.executable, "-P", "-m", "pytest", *words),
        cwd=folder,
        env={**alone, "PYTHONPATH": str(site), "OMP_WAIT_POLICY": "passive"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def benched(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that a user's tests leave."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "test_user.py").write_text(USER)
    (folder / "test_other_ops.py").write_text(OTHER_OPS)
    done = run(site, folder, "--benchmark-only", "--benchmark-json", "out.json", "--sparsemark-threads", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "out.json"


def test_a_users_test_file_works_outside_the_checkout(benched: Path) -> None:
    told = json.loads(benched.read_text())
    names = ["test_scipys", "test_torchs[dense]", "test_torchs[csr]", "test_of_others"]
    names += ["test_gradient", "test_attention", "test_experts"]
    assert sorted(one["name"] for one in told["benchmarks"]) == sorted(names)
    mine = {one["name"]: one for one in told["benchmarks"]}
    about = mine["test_scipys"]["extra_info"]
    assert about["sparsity"] == pytest.approx(0.95, abs=0.001) and about["cache"] == "cold"
    assert about["flops_nominal"] == 2 * 256 * 192 * 8 and about["flops_useful"] < about["flops_nominal"] / 10
    assert about["energy_note"] or about["joules_counter"]
    assert mine["test_torchs[csr]"]["extra_info"]["cache"] == "hot"
    assert mine["test_torchs[csr]"]["group"] == "mine"
    (device,) = told["machine_info"]["sparsemark"]["devices"].values()
    assert device["name"] and not {"host", "user", "node"} & device.keys()
    assert "extra_info" in mine["test_of_others"] and not mine["test_of_others"]["extra_info"]


def test_pytest_benchmark_has_our_samples_to_the_last_digit(benched: Path) -> None:
    told = next(one for one in json.loads(benched.read_text())["benchmarks"] if one["name"] == "test_scipys")
    line = next(one for one in opened(benched).results if one.kernel == "test_scipys")
    assert told["stats"]["data"] == line.seconds and all(float(f"{s:.4g}") == s for s in line.seconds)
    assert told["stats"]["rounds"] == line.calls > 1 and told["stats"]["iterations"] == 1


def test_pytest_benchmarks_own_compare_reads_it(benched: Path) -> None:
    words = (sys.executable, "-m", "pytest_benchmark", "compare", benched.name, "--group-by", "group")
    done = subprocess.run(words, cwd=benched.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "test_torchs[csr]" in done.stdout


def test_compare_and_report_read_it(benched: Path, tmp_path: Path) -> None:
    one = opened(benched)
    assert [str(fault.says) for fault in one.faults] == ["1 benchmark is not sparsemark's"]
    kernels = {line.kernel for line in one.results}
    assert {"test_scipys", "test_torchs-dense", "test_torchs-csr"} < kernels
    assert any(line.dense for line in one.results)
    assert {point.kernel for point in side(benched).logs} == kernels
    frame = read(benched)
    assert frame[frame["kernel"] == "test_scipys"]["speed_up"].notna().all()
    for words in (("compare", str(benched), str(benched)), ("report", str(benched), "--out", "site")):
        done = subprocess.run(
            (sys.executable, "-P", "-m", "suite", *words), cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_not_right_fails_its_test(site: Path, tmp_path: Path) -> None:
    (tmp_path / "test_rogues.py").write_text(ROGUES)
    done = run(site, tmp_path, "-rA", "--sparsemark-threads", "1", "--benchmark-json", "out.json")
    passed = [row.rpartition("::")[2] for row in done.stdout.splitlines() if row.startswith("PASSED")]
    assert passed == ["test_right"], done.stdout
    assert len(re.findall(r"^test_\w+ on (spmm|sddmm)/.*: wrong: ", done.stdout, re.MULTILINE)) == 6, (
        done.stdout
    )
    for says in (
        "b is 4 x 16; spmm of m=16, k=16, n=16 takes it as 16 x 16.",
        "wrong: it replaces time.perf_counter",
        "no op 'gemm'. Did you mean 'spgemm'?",
        "the answer is not finite",
        "cache='lukewarm' is not one of cold, hot.",
    ):
        assert says in done.stdout
    assert "Traceback" not in done.stdout + done.stderr and "not used at all" not in done.stdout
    told = json.loads((tmp_path / "out.json").read_text())  # of those that failed there is nothing to tell
    assert [one["name"] for one in told["benchmarks"]] == ["test_right"]


def test_the_registry_runs_as_tests(site: Path, tmp_path: Path) -> None:
    words = ["--pyargs", "suite.benchmarks", "--sparsemark-workload", "nm", "--sparsemark-threads", "1"]
    words += ["--sparsemark-kernels", "spmm_csr_scipy,spmm_dense_mm", "-k", "2:4 and float32"]
    done = run(site, tmp_path, *words, "--benchmark-only", "--benchmark-json", "out.json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = opened(tmp_path / "out.json")
    assert not found.faults and {one.workload for one in found.results} == {"nm"}
    assert {one.kernel for one in found.results} == {"spmm_csr_scipy", "spmm_dense_mm"}
    assert found.run and found.run.devices and found.run.libraries["torch"]


def test_without_benchmarks_answers_are_checked_all_the_same(site: Path, tmp_path: Path) -> None:
    (tmp_path / "test_user.py").write_text(USER)
    (tmp_path / "test_rogues.py").write_text(ROGUES)
    done = run(site, tmp_path, "--benchmark-disable", "--sparsemark-threads", "1", "-k", "scipys or wrong")
    assert "1 failed, 1 passed" in done.stdout, done.stdout


def test_it_costs_nothing_where_it_is_not_asked_for(site: Path, tmp_path: Path) -> None:
    (tmp_path / "test_plain.py").write_text(
        "import sys\n\ndef test_plain():\n    assert 'torch' not in sys.modules\n"
    )
    done = run(site, tmp_path)
    assert done.returncode == 0, done.stdout


RUBBISH = {
    "a number": "4",
    "nothing": "",
    "no benchmarks": "{}",
    "other benchmarks": '{"benchmarks": [3]}',
    "no header": '{"benchmarks": [], "machine_info": 3}',
    "half a line": '{"benchmarks": [{"extra_info": {"kernel_hash": 1}, "stats": {}}], "datetime": "now"}',
    "lines of others": '{"benchmarks": [{"extra_info": {"kernel_hash": "a", "beside": 4}}]}',
}


@pytest.mark.parametrize("text", RUBBISH.values(), ids=RUBBISH)
def test_a_file_of_something_else_is_named_as_such(text: str, tmp_path: Path) -> None:
    (tmp_path / "some.json").write_text(text)
    found = opened(tmp_path / "some.json")
    assert found.faults and found.run is None and not found.results


def test_the_clock_moves_by_samples_alone() -> None:
    clock = Clock()
    clock.load([0.1, 0.2])
    assert clock() == clock() == 0.0
    clock.tick()
    assert clock() == 0.1
    clock.reset()
    clock.tick()
    assert clock() == 0.2


# The action


def steps() -> list[dict]:
    return yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"]


def test_the_actions_scripts_get_inputs_as_variables_only() -> None:
    for step in steps():
        assert "${{" not in step.get("run", "")


def test_only_the_workflow_that_comments_may_write() -> None:
    for file in (ROOT / ".github" / "workflows").glob("*.yml"):
        told = yaml.safe_load(file.read_text())
        starts = told[True]  # YAML's word for "on"
        starts = set(starts if isinstance(starts, dict) else [starts])
        writes = {right for right, may in told["permissions"].items() if may == "write"}
        measures = any("uses: ./" in row for row in file.read_text().splitlines())
        assert not (writes and measures) and "secrets." not in file.read_text()
        if "self-hosted" in file.read_text():
            assert starts == {"workflow_dispatch"}
        assert writes == ({"pull-requests"} if starts == {"workflow_run"} else set())
