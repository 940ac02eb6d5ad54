"""Realised: a paper's speed-up stands beside the row here whose nominal one is nearest, as shares of that."""

import re

import pytest
from lines import header, line, write

from suite import report
from suite.papers import Published, papers, published
from suite.reading.frame import from_lines
from suite.reading.realised import realised
from suite.registry import discover

discover()


def timed(kernel, gain, sparsity, visits=3, **about):
    """Dense takes a millisecond on each of three visits, the kernel so many times less."""
    sizes = {"m": 400, "k": 400, "n": 8, "sparsity": sparsity}
    for visit in range(1, visits + 1):
        yield line(kernel="dense", dense=True, seconds=[1e-3] * 4, visit=visit, **sizes)
        yield line(kernel=kernel, dense=False, seconds=[1e-3 / gain] * 4, visit=visit, **sizes, **about)


def test_each_published_pair_is_of_a_paper_of_the_table_and_wins_something():
    for id, pairs in published().items():
        assert id in papers()
        assert all(one.nominal >= 1 and one.realised > 0 and one.setting for one in pairs)
    assert [round(one.quotient, 2) for one in published()["teal"]] == [0.92, 0.9]


def test_the_nearest_nominal_speed_up_is_held_beside_and_of_equals_the_best():
    lines = [*timed("half", 1.2, 0.5), *timed("better", 1.6, 0.5), *timed("far", 9.0, 0.9)]
    ids = {"half": ["teal"], "better": ["teal"], "far": ["teal", "cats"], "dense": ["teal"]}
    found = {(one.id, one.reported and one.reported.setting): one for one in realised(from_lines(lines), ids)}
    assert {id for id, _ in found} == {"teal", "cats"}
    for (id, _), one in found.items():
        assert one.here.kernel == ("better" if id == "teal" else "far")
    (cats,) = [one for one in found.values() if one.id == "cats"]
    assert cats.reported is None and cats.here.realised == pytest.approx(0.9, rel=1e-3)


def test_papers_without_a_kernel_that_was_timed_are_not_listed():
    lines = [*timed("mine", 2.0, 0.5)]
    assert not realised(from_lines(lines), {"mine": [], "other": ["teal"]})
    assert not realised(from_lines(lines), {"dense": ["teal"]}), "a dense kernel realises nothing"


def test_the_page_and_the_way_to_it(tmp_path):
    lines = [*timed("mine", 1.5, 0.5, ids=["teal"])]
    index = report.write([write(tmp_path / "run.jsonl", header(), *lines)], tmp_path / "site")
    said = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", (tmp_path / "site" / "papers.html").read_text()))
    assert "1.8x of 2.0x" in said and "1.5x of 2.0x" in said and "75 %" in said
    assert 'href="papers.html"' in index.read_text()


def test_a_quotient_is_of_the_nominal_speed_up():
    assert Published("so", 4.0, 3.0).quotient == 0.75
