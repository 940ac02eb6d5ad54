"""Papers: the table names each once, all that is registered is in it, and the list leaves none out."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from suite.commands import list as listing
from suite.commands.list import papers, serving
from suite.op import discover_parts
from suite.registry import discover

discover_parts()
discover()

TABLE = Path(__file__).parent.parent / "workloads" / "papers.csv"

PLUGIN = """
from sparsemark import kernel

@kernel(op="spmm", ids=("smat", "unheard-of"))
def mine(a, b):
    '''Mine.'''
"""


MARKED = """
import pytest

shared = pytest.mark.paper("teal")

@pytest.mark.paper("smat", "sten")
@pytest.mark.browser
def test_one(): ...

@shared
def test_two(): ...

class TestMore:
    @pytest.mark.paper("nerva")
    def test_three(self): ...
"""


def sparsemark(*words):
    return subprocess.run(
        (sys.executable, "-m", "suite", *map(str, words)), capture_output=True, text=True, timeout=300
    )


def test_the_table_names_each_paper_once():
    with TABLE.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert list(rows[0]) == ["id", "title", "claim", "link"]
    assert len(rows) == len({row["id"] for row in rows}) == len({row["title"] for row in rows}) == 152
    for row in rows:
        assert re.fullmatch(r"[a-z0-9-]+", row["id"]) and row["title"], row
        assert re.fullmatch(r"(https?://\S+)?", row["link"]), row
        assert None not in row and all(value == value.strip() for value in row.values()), row


def test_what_is_registered_serves_papers_of_the_table():
    assert set(serving()) <= set(papers())


def test_the_list_has_every_paper_with_what_serves_it_or_none():
    done = sparsemark("list", "--ids")
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    told = dict(line.split(maxsplit=1) for line in lines)
    assert list(told) == list(papers())
    assert "workload unstructured" in told["smat"] and "none" in told.values()
    some = sum(served != "none" for served in told.values())
    assert last.startswith(f"{some} of {len(told)} papers are served")


def test_a_plugins_papers_are_listed_too(tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN)
    told = json.loads(sparsemark("list", "--ids", "--json", "--plugin", plugin).stdout)
    assert "kernel mine" in told["smat"]["serves"] and told["smat"]["title"] == papers()["smat"]["title"]
    assert told["unheard-of"] == {"serves": ["kernel mine"]}


@pytest.mark.parametrize("inside", [True, False])
def test_tests_are_found_by_their_mark_in_a_checkout_alone(inside, tmp_path, monkeypatch):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_made.py").write_text(MARKED)
    if inside:
        (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(listing, "__file__", str(tmp_path / "suite" / "commands" / "list.py"))
    found = [
        ("smat", "test_made.test_one"),
        ("sten", "test_made.test_one"),
        ("teal", "test_made.test_two"),
        ("nerva", "test_made.test_three"),
    ]
    assert list(listing.tests()) == (found if inside else [])
