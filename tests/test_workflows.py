"""Workflows: what CI does with a submission and with the site, in a clean folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from lines import write
from submissions import KEY, small, with_line

ROOT = Path(__file__).parent.parent


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with results and the scripts of CI, and an environment whose sparsemark is this one."""
    folder = tmp_path / "a clean folder"
    shutil.copytree(ROOT / ".ci", folder / ".ci")
    shutil.copy(ROOT / "Makefile", folder)
    write(folder / "results" / KEY / "2026-01-01T000000.jsonl", *small(1))
    (folder / "results" / "OURS").touch()
    program = folder / "env" / "bin" / "sparsemark"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m suite "$@"\n')
    program.chmod(0o755)
    (folder / ".ci" / "setup").write_text("#!/bin/sh\n")  # the environment is ready
    (folder / ".gitignore").write_text("env/\nsite/\npreview/\n")
    git(folder, "init", "-q", "-b", "main")
    commit(folder, "All")
    git(folder, "switch", "-q", "-c", "theirs")
    return folder


def git(folder: Path, *words: str) -> None:
    about = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    subprocess.run(("git", *about, *words), cwd=folder, check=True, capture_output=True)


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)


def submission(folder: Path) -> subprocess.CompletedProcess[str]:
    words = (folder / ".ci" / "submission", "main", "preview")
    around = {**os.environ, "VENV": "env"}
    return subprocess.run(words, capture_output=True, text=True, env=around, cwd="/", timeout=300)


def test_a_submission_is_validated_and_shown(checkout: Path) -> None:
    write(checkout / "results" / KEY / "2026-01-02T030405.jsonl", *small())
    commit(checkout, "Mine")
    done = submission(checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Made Up 9000" in (checkout / "preview" / "index.html").read_text()


def test_a_submission_with_a_fault_fails(checkout: Path) -> None:
    write(checkout / "results" / "elsewhere" / "2026-01-02T030405.jsonl", *with_line(calls=3))
    commit(checkout, "Mine")
    done = submission(checkout)
    assert done.returncode == 1
    assert ":21: 20 samples of 3 calls" in done.stdout and ":1: in the folder elsewhere" in done.stdout


@pytest.mark.parametrize(
    "name", ["results/OURS", "Makefile", "results/x/a b.jsonl", "results/x/races/a.jsonl"]
)
def test_a_submission_that_changes_anything_else_is_refused(name: str, checkout: Path) -> None:
    write(checkout / "results" / KEY / "2026-01-02T030405.jsonl", *small())
    (checkout / name).parent.mkdir(parents=True, exist_ok=True)
    with (checkout / name).open("a") as file:
        file.write("more\n")
    commit(checkout, "Mine")
    done = submission(checkout)
    assert done.returncode == 1 and "and nothing else" in done.stderr and Path(name).name in done.stderr


def test_a_link_is_no_results_file(checkout: Path) -> None:
    (checkout / "results" / KEY / "a.jsonl").symlink_to("/etc/passwd")
    commit(checkout, "Mine")
    done = submission(checkout)
    assert done.returncode == 1 and "is not a plain file" in done.stderr


def test_the_site_is_made_of_the_committed_results(checkout: Path) -> None:
    words = ("make", "site", "VENV=env")
    done = subprocess.run(words, capture_output=True, text=True, cwd=checkout, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Made Up 9000" in (checkout / "site" / "index.html").read_text()


@pytest.mark.parametrize("name", ["submission", "pages"])
def test_workflows_may_do_no_more_than_they_must(name: str) -> None:
    text = (ROOT / ".github" / "workflows" / f"{name}.yml").read_text()
    made = yaml.safe_load(text)
    starts = made[True]  # YAML takes `on` for a truth
    assert made["permissions"] == {"contents": "read"}
    assert "secrets" not in text and "pull_request_target" not in text and "workflow_run" not in text
    for name, job in made["jobs"].items():
        assert job["timeout-minutes"] <= 30
        assert name == "publish" or "permissions" not in job
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")  # a stranger's words are no shell's
            assert step.get("uses", "actions/").startswith("actions/")
            if step.get("uses", "").startswith("actions/checkout"):
                assert step["with"]["persist-credentials"] is False
            if "run" in step:
                assert step["run"].startswith(("make ", ".ci/"))
    if "pull_request" in starts:
        assert made["jobs"]["submission"]["if"] == "github.event.pull_request.head.repo.fork"
    else:
        assert set(starts) == {"push", "workflow_dispatch"} and starts["push"] == {"branches": ["main"]}
