"""The page on choosing: worth having is better than luck and faster than dense, and nothing else is."""

import re

import pytest
from lines import header, line, write

from suite import report
from suite.op import discover_parts
from suite.reading.answers import answers
from suite.reading.frame import read
from suite.reading.ranking import ranking
from suite.reading.selected import selected, shortest
from suite.report import view_of

discover_parts()

SIZES = {"h": 8, "g": 8, "n": 2048, "d": 64, "b": 64}


def entry(selector=None, control=None, seconds=1e-3, recall=None, sparsity=0.75, n=2048, visit=1, **changes):
    sizes = SIZES | {"n": n}
    told = ",".join(f"{name}={size}" for name, size in sizes.items())
    about = {
        "workload": "attention",
        "op": "attention_causal",
        "case": f"attention_causal/{told}/chosen@{sparsity:g}/bfloat16/seed=0/data=heads",
        "sizes": sizes,
        "pattern": f"chosen@{sparsity:g}",
        "dtype": "bfloat16",
        "data": "heads",
        "phase": "prefill",
        "kernel": "attention_mine" if selector else "attention_dense",
        "selector": selector,
        "control": control,
        "dense": selector is None,
        "execution": "sparse" if selector else "dense",
        "kernel_hash": selector or "dense",
        "seconds": [seconds * (1 + 0.01 * at * (-1) ** visit) for at in range(4)],
        "select_seconds": 1e-4 if selector else None,
        "quality": {} if recall is None else {"recall": recall, "error": 1 - recall, "cosine": recall},
        "visit": visit,
        "sparsity": sparsity,
        "flops_nominal": 1000,
        "flops_useful": round(1000 * (1 - sparsity)),
        "flops_executed": 1000 if selector is None else round(1000 * (1 - sparsity)),
    }
    return line(**(about | changes))


def lines(n=2048, dense=4e-3, scale=1.0):
    for visit in (1, 2, 3):
        yield entry(seconds=dense, visit=visit, n=n)
        yield entry("random_blocks", "luck", 0.9e-3 * scale, 0.3, visit=visit, n=n)
        yield entry("oracle", "knowledge", 9e-3 * scale, 0.9, visit=visit, n=n)
        yield entry("good", None, 2e-3 * scale, 0.8, visit=visit, n=n)
        yield entry("slow", None, 8e-3 * scale, 0.85, visit=visit, n=n)
        yield entry("blind", None, 1e-3 * scale, 0.25, visit=visit, n=n)


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "run.jsonl", header(workloads={"attention": 2}), *lines())


def test_worth_having_is_better_than_luck_and_faster_than_dense(file):
    view = view_of([file])
    found = {row.selector: row for row in selected(view.frame, view.rows).itertuples()}
    assert {name: (row.beats_luck, row.pays) for name, row in found.items()} == {
        "random_blocks": ("", "yes"),
        "oracle": ("", "no"),
        "good": ("yes", "yes"),
        "slow": ("yes", "no"),
        "blind": ("no", "yes"),
    }
    assert found["good"].share == pytest.approx(0.05, rel=0.05)


def test_neither_a_control_nor_what_is_worse_than_luck_is_an_answer(file):
    frame = read(file)
    best = frame[frame["best"] & ~frame["dense"]]
    assert list(best["kernel"]) == ["attention_mine+good"]
    (told,) = answers(frame)
    assert told.verdict is True and "2" in told.faster


def test_what_differs_in_worth_is_not_ranked_by_time(file):
    assert not ranking(view_of([file]).recorded)


def test_every_pair_of_kernel_and_selector_is_a_row_of_its_own(file):
    frame = read(file)
    assert set(frame["kernel"]) == {"attention_dense"} | {
        f"attention_mine+{name}" for name in ("random_blocks", "oracle", "good", "slow", "blind")
    }
    assert (frame["visits"] == 3).all()


def test_the_page_names_what_is_worth_having(file, tmp_path):
    report.write([file], tmp_path / "site")
    page = (tmp_path / "site" / "selection.html").read_text()
    said = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page))
    assert "Worth having at some sparsity: good." in said
    assert "1 of 3 methods are worth having" in said
    assert ">luck</span>" in page and "nan" not in said
    assert 'href="selection.html"' in (tmp_path / "site" / "index.html").read_text()


def test_without_selectors_there_is_no_such_page(tmp_path):
    file = write(tmp_path / "run.jsonl", header(), line(seconds=[1e-3]))
    report.write([file], tmp_path / "site")
    assert not (tmp_path / "site" / "selection.html").exists()


def test_from_which_length_on_it_pays(tmp_path):
    long = lines(8192, dense=64e-3)
    short = lines(1024, dense=1e-3)
    file = write(tmp_path / "run.jsonl", header(), *short, *lines(2048), *long)
    view = view_of([file])
    found = selected(view.frame, view.rows)
    of = {name: shortest(rows) for name, rows in found.groupby("selector")}
    assert of["good"] == "2048"
    assert of["slow"] == "8192"
    assert of["random_blocks"] == "1024"
    assert shortest(found[(found["selector"] == "slow") & (found["length"] < 8000)]) == "none up to 2048"
