"""Two refs of a stranger's repository with a compiled kernel: built, measured in turn, and told apart."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from suite.commands import load
from suite.commands.ab import declare, kernels, plugins
from suite.comparing.duel import looks
from suite.comparing.verdicts import Rule
from suite.comparing.versions import Version, furnish, git, is_own
from suite.cpu.device import Cpu
from suite.kernel import KERNELS
from suite.registry import Unusable

ROOT = Path(__file__).parent.parent
COMPILER = shutil.which(os.environ.get("CC", "cc"))

CASE = "spmm/m=256,k=256,n=16/unstructured@0.9/float32/seed=0"

SETUP = """
from setuptools import Extension, setup

setup(
    name="strangers", version="1", packages=["strangers"],
    ext_modules=[Extension("strangers.rows", ["strangers/rows.c"], extra_compile_args=["-O2"])],
)
"""

ROWS = """
#include <stdint.h>
#include <Python.h>

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "rows", 0, -1, 0};
PyMODINIT_FUNC PyInit_rows(void) { return PyModule_Create(&module); }

#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
void multiply(int64_t m, int64_t n, const int32_t *starts, const int32_t *columns, const float *values,
              const float *b, float *out) {
    for (int again = 0; again < AGAIN; again++)
        for (int64_t row = 0; row < m; row++) {
            for (int64_t j = 0; j < n; j++) out[row * n + j] = 0;
            for (int32_t at = starts[row]; at < starts[row + 1]; at++)
                for (int64_t j = 0; j < n; j++)
                    ((volatile float *)out)[row * n + j] += values[at] * b[columns[at] * n + j];
        }
}
"""

PLUGIN = """
import ctypes

from sparsemark import Prepared, kernel
from strangers import rows

library = ctypes.CDLL(rows.__file__)


@kernel(op="spmm", dtypes=("float32",))
def spmm_strangers(a, b):
    out = b.new_empty(a.shape[0], b.shape[1])
    sizes = [ctypes.c_int64(size) for size in out.shape]

    def run(b):
        held = (a.starts, a.columns, a.values, b, out)
        library.multiply(*sizes, *(ctypes.c_void_p(one.data_ptr()) for one in held))
        return out

    return Prepared(run, holds=(a.starts, a.columns, a.values, out))
"""


def put(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qm", message)
    git(folder, "tag", message)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """once: as it is; thrice: three times the work; wrong: does not compile; hollow: has no plug-in."""
    if not COMPILER:
        pytest.skip("needs a C compiler")
    pytest.importorskip("setuptools", reason="needs setuptools, and building must not fetch it")
    folder = tmp_path_factory.mktemp("a strangers repository")
    git(folder, "init", "-q")
    rows = "strangers/rows.c"
    files = {"setup.py": SETUP, "strangers/__init__.py": "", "bench/mine.py": PLUGIN}
    put(folder, files | {rows: ROWS.replace("AGAIN", "1")})
    commit(folder, "once")
    put(folder, {rows: ROWS.replace("AGAIN", "3")})
    commit(folder, "thrice")
    put(folder, {rows: "this is no C"})
    commit(folder, "uncompilable")
    return folder


def ab(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        (sys.executable, "-P", "-m", "suite", "ab", *words),
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


BUILD = "pip install -q --no-build-isolation --no-deps -e ."


def test_both_refs_are_built_measured_and_compared(repository: Path, tmp_path: Path) -> None:
    out = tmp_path / "kept"
    words = ["--base", "once", "--head", "thrice", "--plugin", "bench/mine.py", "--build", BUILD]
    words += ["--case", CASE, "--threads", "1", "--runs", "1", "--keep", str(out), "--device", "cpu"]
    done = ab(repository, *words, "--json", str(out / "c.json"), "--markdown", str(out / "c.md"))
    assert done.returncode == 0, done.stderr  # one run decides nothing
    told = json.loads((out / "c.json").read_text())
    (mine,) = [one for one in told["changes"] if one["kernel"] == "spmm_strangers"]
    assert mine["verdict"] == "AMBIGUOUS" and "a verdict takes 5" in mine["why"]
    assert mine["head"] > 1.5 * mine["base"]  # each measured the library that was built from it
    assert any("dense" in one["kernel"] for one in told["changes"])
    assert [side["commits"] for side in (told["base"], told["head"])] == [
        [f"{ref} {git(repository, 'rev-parse', '--short=12', ref)}"] for ref in ("once", "thrice")
    ]
    assert {file.name for file in out.iterdir()} >= {"base.jsonl", "head.jsonl", "base.log", "head.log"}
    assert git(repository, "worktree", "list").count("\n") == 0
    again = (sys.executable, "-P", "-m", "suite", "compare", str(out / "base.jsonl"), str(out / "head.jsonl"))
    assert "once" in subprocess.run(again, capture_output=True, text=True, check=True).stdout


def test_a_head_that_does_not_build_is_broken_with_its_last_lines(repository: Path, tmp_path: Path) -> None:
    words = ["--base", "once", "--head", "uncompilable", "--plugin", "bench/mine.py", "--build", BUILD]
    summary = tmp_path / "summary.md"
    out = ["--markdown", "c.md", "--json", str(tmp_path / "c.json"), "--html", str(tmp_path / "c.html")]
    out[1] = str(tmp_path / out[1])
    environment = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}
    done = ab(repository, *words, *out, "--keep", str(tmp_path / "kept"), "--device", "cpu", **environment)
    assert done.returncode == 1, done.stderr
    assert "BROKEN" in done.stdout and "::error title=BROKEN uncompilable" in done.stdout
    told = json.loads((tmp_path / "c.json").read_text())
    assert told["counts"] == {"BROKEN": 1} and told["broken"]["tail"]
    for file in (tmp_path / "c.md", tmp_path / "c.html", summary):
        assert "the build failed" in file.read_text().lower() or "The build failed" in file.read_text()
    assert git(repository, "worktree", "list").count("\n") == 0


def test_the_actions_steps_run_in_a_clean_folder(repository: Path, tmp_path: Path) -> None:
    """With an environment that has torch and no sparsemark; nothing is fetched."""
    action, clone, environment = tmp_path / "action", tmp_path / "clone", tmp_path / "environment"
    action.mkdir()
    names = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "sparsemark.py", "action.yml")
    for name in (*names, "suite", "kernels", "workloads", "reports"):
        subprocess.run(("cp", "-r", str(ROOT / name), str(action)), check=True)
    git(tmp_path, "clone", "-q", str(repository), str(clone))
    furnish(environment, nested=False)
    given = {"BASE": "once", "HEAD": "uncompilable", "PLUGIN": "bench/mine.py", "BUILD": BUILD}
    given |= {"WORKLOADS": "", "BUDGET": "1m", "OPTIONS": "--device cpu", "OUT": "out", "TORCH_INDEX": ""}
    outputs = tmp_path / "outputs"
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        **given,
        "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "GITHUB_ACTION_PATH": str(action),
        "GITHUB_OUTPUT": str(outputs),
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # which is how pip spells "none"
    }
    ends = {}
    for step in yaml.safe_load((action / "action.yml").read_text())["runs"]["steps"]:
        if "run" in step:
            words = ("bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"])
            told = outputs.read_text().partition("status=")[2].strip() if outputs.exists() else ""
            done = subprocess.run(
                words, cwd=clone, env={**variables, "STATUS": told}, capture_output=True, text=True
            )
            ends[step["name"]] = done.returncode
            assert done.returncode == 0 or step["name"] == "Verdict", done.stdout + done.stderr
    assert ends == {"Install": 0, "Compare": 0, "Verdict": 1}
    assert "uncompilable" in (clone / "out" / "comment.md").read_text()
    assert json.loads((clone / "out" / "comparison.json").read_text())["counts"] == {"BROKEN": 1}


MISTAKES = {
    "no such ref": (["--base", "nowhere"], 2, "'nowhere' is no commit"),
    "an option for git": (["--base=--upload-pack=x"], 2, "is no commit"),
    "no plug-in": (["--base", "once", "--head", "once", "--plugin", "gone.py"], 2, "there is no such file"),
    "a base that does not build": (["--base", "uncompilable", "--build", BUILD], 3, "nothing to hold"),
    "no ref": ([], 2, "--base"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_in_a_sentence(mistake: str, repository: Path, tmp_path: Path) -> None:
    words, status, says = MISTAKES[mistake]
    done = ab(repository, *words, "--keep", str(tmp_path / "kept"), "--device", "cpu")
    assert done.returncode == status and says in done.stderr and "Traceback" not in done.stderr
    assert git(repository, "worktree", "list").count("\n") == 0


def test_outside_a_repository_there_is_nothing_to_compare(tmp_path: Path) -> None:
    done = ab(tmp_path, "--base", "HEAD", "--device", "cpu")
    assert done.returncode == 2 and "git rev-parse" in done.stderr and "Traceback" not in done.stderr


def test_looks_begin_with_the_fewest_runs_and_end_with_the_last() -> None:
    assert looks(Rule(), 10) == [5, 7, 10]
    assert looks(Rule(), 5) == [5] and looks(Rule(), 3) == [3]
    assert looks(Rule(), 20) == [5, 7, 10, 14, 19, 20]


def test_a_plugin_is_the_versions_own_where_it_has_one(tmp_path: Path, monkeypatch) -> None:
    repository, tree = tmp_path / "here", tmp_path / "there"
    put(repository, {"a.py": "", "b.py": ""})
    put(tree, {"a.py": ""})
    monkeypatch.chdir(repository)
    version = Version("ref", "c0ffee", tree, tmp_path, tmp_path / "log")
    assert plugins(["a.py", "b.py"], version, repository) == [str(tree / "a.py"), str(repository / "b.py")]


class Listing:
    """A version that has these kernels, and their ops."""

    folder = ROOT

    def __init__(self, **ops: str) -> None:
        self.ops = ops

    def measure(self, *words: str) -> str:
        return json.dumps({"kernels": {name: {"op": op} for name, op in self.ops.items()}})


def chosen(words: list[str], *versions: Listing) -> list[str]:
    """What is measured, as `run` is told."""
    parser = argparse.ArgumentParser()
    declare(parser)
    given = parser.parse_args(["--base", "x", *words])
    return kernels(given, Cpu(1), versions, ROOT).split(",")  # pyright: ignore


def test_what_is_measured_is_what_either_version_has_and_the_dense_kernels_of_its_ops() -> None:
    load()
    base, head = Listing(spmm_old="spmm", sddmm_old="sddmm"), Listing(spmm_old="spmm", moe_new="moe")
    assert chosen([], base, head) == ["*"]
    for glob, op in (("spmm_o*", "spmm"), ("moe_new", "moe"), ("sddmm_*", "sddmm")):
        first, *dense = chosen(["--kernels", glob], base, head)
        assert first == glob and dense and {KERNELS[name].op for name in dense} == {op}
        assert all(KERNELS[name].dense and KERNELS[name].on == "cpu" for name in dense)
    brought = chosen(["--plugin", str(ROOT / "tests" / "rogues.py")], base, head)
    assert {"spmm_old", "sddmm_old", "moe_new"} < set(brought)
    with pytest.raises(Unusable, match="'spmm_new' matches no kernel of either version"):
        chosen(["--kernels", "spmm_new"], base, head)
    with pytest.raises(Unusable, match="registers no kernel in either version"):
        chosen(["--plugin", str(ROOT / "tests" / "rogues.py")], Listing(), Listing())


def test_a_checkout_of_sparsemark_is_known_as_such() -> None:
    assert is_own(ROOT) and not is_own(ROOT / "tests")
