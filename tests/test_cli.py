"""The command line: what is printed, what status it ends with, and that no mistake ends in a traceback."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lines import grid, header, write
from safetensors.torch import save_file

from suite.case import from_id
from suite.cli import main
from suite.reading import frame

CASE = "spmm/m=64,k=96,n=8/unstructured@0.5/float32/seed=0"

PLUGIN = """
from sparsemark import Prepared, kernel

@kernel(op="spmm", on="cpu", dtypes=("float32",))
def mine(a, b):
    held = a.scipy()
    arrays = (held.indptr, held.indices, held.data)
    metadata = held.indptr.nbytes + held.indices.nbytes
    run = lambda b: held @ b.numpy()
    return Prepared(run, 2 * a.nonzeros * b.shape[1], held.data.nbytes, metadata, arrays)
"""


def sparsemark(*words, cwd=None):
    return subprocess.run(
        (sys.executable, "-m", "suite", *map(str, words)),
        capture_output=True,
        text=True,
        timeout=300,
        cwd=cwd,
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run", "unstructred"), "Did you mean 'unstructured'?"),
        (("run", "--case", "spmm"), "is not an id"),
        (("run", "--case", "spmm/m=4,k=4,n=4/unstructured@x/float32/seed=0"), "no pattern 'unstructured@x'"),
        (("run", "--case", "spmm/m=4,k=4,n=4/unstructured@0.5/float99/seed=0"), "dtype 'float99'"),
        (("run", "--case", "spmm/m=4,k=4/unstructured@0.5/float32/seed=0"), "n is missing"),
        (("run", "--case", "spmm/m=4,k=4,n=0/unstructured@0.5/float32/seed=0"), "at least 1"),
        (("run", "--case", CASE.replace("0.5", "1.5")), "not between 0 and 1"),
        (("run", "--kernels", "nothing_like_it"), "matches none of the "),
        (("run", "--set", "sparsity"), "write an axis and its values"),
        (("run", "--set", "n=many"), "'many' is not a number"),
        (("run", "--set", "dtype=float64"), "dtypes are float32"),
        (("run", "--plugin", "missing.py"), "not a Python file"),
        (("run", "--matrix", "missing.mtx"), "missing.mtx"),
        (("run", "--resume", "--out", "missing.jsonl"), "there is no missing.jsonl"),
        (("run", "--threads", "9999"), "9999"),
        (("run", "--device", "abacus"), "--device abacus"),
        (("run", "--profile"), "takes one case and one kernel"),
        (("report", "missing.jsonl"), "no results file missing.jsonl"),
        (("report",), "Measure first"),
        (("validate", "missing.jsonl"), "no file missing.jsonl"),
        (("check", "spmm_csr_scipi"), "Did you mean 'spmm_csr_scipy'?"),
    ],
)
def test_a_mistake_ends_in_a_sentence(words, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())  # a mistake leaves nothing behind


@pytest.mark.parametrize(
    "words", [("--budget", "soon"), ("--budget", "0"), ("--extent", "huge"), ("--visits", "0")]
)
def test_a_bad_option_is_wrong_usage(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(("run", *words))
    assert ended.value.code == 2 and "usage:" in capsys.readouterr().err


def test_a_mistake_leaves_no_traceback():
    done = sparsemark("run", "unstructred")
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_a_broken_plugin_is_named(tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text("import sparsemark\nsparsemark.kernl\n")
    done = sparsemark("list", "--plugin", plugin)
    assert done.returncode == 2
    assert "mine.py: AttributeError" in done.stderr and "Mend the file" in done.stderr


def test_list_says_of_each_kernel_whether_it_runs_here():
    about = json.loads(sparsemark("list", "--json").stdout)
    assert {"unstructured", "nm", "block"} <= set(about["workloads"])
    for name, entry in about["kernels"].items():
        assert entry["runs"] or entry["why_not"], name
    assert any(entry["runs"] and entry["dense"] for entry in about["kernels"].values())


def test_list_prints_case_ids_that_parse():
    done = sparsemark("list", "--cases", "--extent", "smoke")
    assert done.returncode == 0, done.stderr
    ids = done.stdout.split()
    assert len(ids) > 3 and [str(from_id(one)) for one in ids] == ids
    about = json.loads(sparsemark("list", "--cases", "nm", "--extent", "smoke", "--json").stdout)
    assert list(about) == ["nm"] and set(about["nm"]) < set(ids)
    assert "Did you mean 'nm'?" in sparsemark("list", "--cases", "nmm").stderr


def test_a_printed_command_measures_its_line_again(tmp_path):
    torch.manual_seed(0)
    layer = torch.randn(64, 48) * (torch.rand(64, 48) < 0.1)
    save_file({"layers.0.weight": layer, "bias": torch.ones(2, 2)}, tmp_path / "my model.safetensors")
    (tmp_path / "mine.py").write_text(PLUGIN)
    done = sparsemark(
        "run", "unstructured", "--matrix", "my model.safetensors:layers.0.weight", "--set", "n=8",
        "--kernels", "mine", "--plugin", "mine.py", "--extent", "smoke", "--visits", 1, "--cache", "hot",
        "--threads", 1, "--out", "first.jsonl", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (first,) = frame.read(tmp_path / "first.jsonl").to_dict("records")
    words = shlex.split(first["command"])
    again = sparsemark(*words[1:], "--visits", 1, "--out", "again.jsonl", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    (second,) = frame.read(tmp_path / "again.jsonl").to_dict("records")
    for name in ("workload", "case", "data", "kernel", "kernel_hash", "cache", "threads", "command"):
        assert first[name] == second[name], name
    assert first["outcome"] == second["outcome"] == "ok"


def test_a_second_run_states_how_far_it_agrees(tmp_path):
    for day, name in enumerate(("one", "two"), 1):
        lines = [header(started=f"2026-01-0{day}T00:00:00+00:00"), *list(grid(day))[1:]]
        write(tmp_path / f"results/made-up/{name}.jsonl", *lines)
    done = sparsemark("report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = Path(done.stdout.strip()).read_text()
    assert "(one.jsonl and two.jsonl)" in text
    assert '<th scope="row">two.jsonl' in text and '<th scope="row">one.jsonl' not in text


def test_devices_prints_what_was_measured():
    about = json.loads(sparsemark("devices", "--json", "--device", "cpu").stdout)["devices"][0]
    assert about["ceilings"]["flops"]["float32"] > 1e9
    assert about["ceilings"]["bandwidth"]["memory"] > 1e8
    assert about["meter"] or about["no_meter"]


def test_a_run_prints_its_answers_and_its_file(tmp_path):
    words = ("run", "--case", CASE, CASE.replace("0.5", "0.9"), "--extent", "smoke")
    done = sparsemark(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    file = next(tmp_path.rglob("*.jsonl"))
    assert str(file.relative_to(tmp_path)) in done.stdout
    assert "unstructured" in done.stdout and "decode" in done.stdout
    assert sparsemark("validate", file).returncode == 0
    report = sparsemark("report", cwd=tmp_path)
    page = Path(report.stdout.strip())
    assert page.is_file() and page.name == "index.html"


def test_validate_names_every_fault_by_line(tmp_path):
    file = tmp_path / "bad.jsonl"
    file.write_text('{"kind":"run","schema":1,"version":"0","started":"x"}\nnonsense\n{"kind":"result"}\n')
    done = sparsemark("validate", file)
    assert done.returncode == 1
    assert f"{file}:2:" in done.stdout and f"{file}:3:" in done.stdout


def test_profile_calls_one_kernel_in_this_process():
    done = sparsemark("run", "--case", CASE, "--kernels", "spmm_csr_scipy", "--profile")
    assert done.returncode == 0, done.stderr
    assert "spmm_csr_scipy on spmm/m=64" in done.stdout


def test_a_strangers_kernel_is_checked_without_timing(tmp_path):
    rogues = Path(__file__).parent / "rogues.py"
    good = sparsemark("check", "rogue_none", "--plugin", rogues)
    assert good.returncode == 0, good.stderr
    bad = sparsemark("check", "rogue_zero", "--plugin", rogues)
    assert bad.returncode == 1 and "wrong" in bad.stderr
