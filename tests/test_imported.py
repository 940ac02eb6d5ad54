"""Imported scores: a table becomes lines whole or not at all, and pages never take them for their own."""

import csv
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lines import header, score, write
from msgspec.structs import replace

from suite import report
from suite.cli import main
from suite.commands import import_
from suite.op import discover_parts
from suite.reading.opened import opened
from suite.reading.scores import studies
from suite.record import faults_of, read
from suite.registry import Unusable
from suite.run import newest
from suite.studying.imported import COLUMNS, imported
from suite.submitting.check import check

discover_parts()

ROW = {
    "method": "wanda",
    "pattern": "unstructured@0.5",
    "seed": "0",
    "metric": "perplexity",
    "better": "lower",
    "value": "7.26",
    "training": "none",
    "dense_value": "5.47",
}


def table(tmp_path, *rows, name="scores.csv"):
    file = tmp_path / name
    with file.open("w", newline="", encoding="utf-8") as opened:
        written = csv.DictWriter(opened, list(dict.fromkeys(name for row in rows for name in row)))
        written.writeheader()
        written.writerows(rows)
    return file


def lines_of(tmp_path, *rows):
    return imported(table(tmp_path, *rows), "llama", "wikitext2-2048", "made-up")


def test_a_row_is_a_line_that_says_where_it_is_from(tmp_path):
    note = "128 windows of c4, 2,048 each"
    (line,), faults = lines_of(tmp_path, ROW | {"note": note, "train_flops": "1e9", "ids": "wanda dsnot"})
    assert not faults and not faults_of(line)
    assert line.imported and line.outcome == "ok" and line.execution == "simulated"
    assert (line.value, line.dense_value, line.sparsity, line.note) == (7.26, 5.47, 0.5, note)
    assert (line.train_flops, line.ids, line.bytes) == (1e9, ["wanda", "dsnot"], None)
    assert re.fullmatch(r"scores-[0-9a-f]{8}", line.data)


@pytest.mark.parametrize("around", ["", " "])
def test_the_dense_value_may_be_a_row(around, tmp_path):
    dense = ROW | {"method": f"{around}dense", "pattern": "-", "value": "5.47", "dense_value": around}
    dense["seed"] += around
    lines, faults = lines_of(tmp_path, dense, ROW | {"dense_value": ""})
    assert not faults
    assert [(one.pattern, one.sparsity, one.dense_value) for one in lines] == [
        ("dense", 0.0, 5.47),
        ("unstructured@0.5", 0.5, 5.47),
    ]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"value": "seven"}, "$.value"),
        ({"value": "nan"}, "$.value"),
        ({"value": ""}, "value is empty"),
        ({"pattern": "half"}, "no pattern 'half'"),
        ({"pattern": "<script>"}, "no pattern"),
        ({"method": "<script>"}, "$.method"),
        ({"seed": "first"}, "$.seed"),
        ({"training": "some"}, "some"),
        ({"better": "more"}, "more"),
        ({"sparsity": "50"}, "$.sparsity"),
        ({"dense_value": ""}, "no dense_value"),
        ({"dense_value": "0"}, "dense_value is 0"),
        ({"data": "../up"}, "$.data"),
    ],
)
def test_a_wrong_row_is_named_by_its_line(tmp_path, wrong, says):
    good = ROW | {"sparsity": "", "data": ""}
    _, (fault,) = lines_of(tmp_path, good, good | {"method": "mine", "seed": "1"} | wrong)
    assert fault.line == 3 and says in fault.says


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ({}, "the same method, pattern and seed as line 2"),
        ({"method": "other", "better": "higher"}, "better is higher, and in line 2 lower"),
        ({"method": "other", "dense_value": "6"}, "dense_value is 6.0, and in line 2 5.47"),
    ],
)
def test_rows_at_odds_with_each_other_are_named(tmp_path, second, says):
    _, (fault,) = lines_of(tmp_path, ROW, ROW | second)
    assert (fault.line, fault.says) == (3, says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "is missing"),
        (b"method,value\n", "is missing"),
        (",".join([*ROW, "latency"]).encode(), "column latency is not known"),
        (",".join([*ROW, "seed"]).encode(), "column seed is there twice"),
        (b"\x89PNG\r\n", "not a table"),
        (None, "no table"),
    ],
)
def test_what_is_no_table_of_scores_ends_in_a_sentence(tmp_path, text, says):
    file = tmp_path / "scores.csv"
    if text is not None:
        file.write_bytes(text)
    with pytest.raises(Unusable, match=says):
        imported(file, "llama", "p", "made-up")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.text(max_size=6), max_size=len(ROW) + 1), max_size=3), st.binary(max_size=20))
def test_whatever_is_in_it_ends_in_lines_or_in_faults(tmp_path, cells, more):
    file = tmp_path / "scores.csv"
    text = "\n".join([",".join(ROW), *(",".join(row) for row in cells)])
    file.write_bytes(text.encode(errors="replace") + more)
    try:
        lines, faults = imported(file, "llama", "p", "made-up")
    except Unusable:
        return
    assert faults or not any(map(faults_of, lines))
    assert all(one.says and one.line >= 2 for one in faults)


def test_the_command_writes_all_or_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ("--task", "llama", "--protocol", "wikitext2-2048")
    with pytest.raises(SystemExit) as ended:
        main(["import", str(table(tmp_path, ROW, ROW | {"value": "x"})), *words])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "scores.csv:3: " in said and "1 row is wrong" in said
    assert not list(tmp_path.rglob("*.jsonl"))
    with pytest.raises(SystemExit) as ended:
        main(["import", str(table(tmp_path, ROW)), *words])
    assert ended.value.code == 0
    (file,) = tmp_path.glob("results/*/imported/*.jsonl")
    recorded = read(file)
    assert not recorded.faults and len(recorded.scores) == 1
    assert recorded.run is not None and recorded.run.options["imported"] == "scores.csv"
    assert newest(tmp_path / "results", study=True) is None, "it is no study of this device"
    assert any("imported from a table" in fault.says for fault in check(recorded).faults)
    with pytest.raises(SystemExit):
        main(["report"])
    assert "wanda (imported)" in (tmp_path / "site" / "accuracy-llama.html").read_text()


def test_the_command_tells_every_column():
    told = re.findall(r"^  (\w[\w, ]*?)  ", import_.__doc__ or "", re.MULTILINE)
    assert [name for names in told for name in names.split(", ")] == list(COLUMNS)


def test_pages_take_imported_scores_for_methods_of_their_own(tmp_path):
    """On the figure of their protocol and data, but never on the curve of a method tried here."""
    about = {"task": "llama", "protocol": "p", "data": "d", "metric": "perplexity", "better": "lower"}
    about |= {"pattern": "unstructured@0.5", "sparsity": 0.5, "method": "wanda", "dense_value": 5.47}
    mine = replace(score(), **about, value=7.0)
    theirs = replace(mine, imported=True, value=9.0)
    whole = {"method": "dense", "pattern": "dense", "sparsity": 0.0, "value": 5.47}
    dense = [replace(mine, **whole, infer_flops=1e6), replace(theirs, **whole)]
    other = replace(theirs, protocol="q", value=8.0)
    file = write(tmp_path / "study.jsonl", header(options={"study": []}), mine, dense[0])
    table = write(tmp_path / "table.jsonl", header(options={"imported": "x.csv"}), theirs, dense[1])
    beside = write(tmp_path / "beside.jsonl", header(options={"imported": "y.csv"}), other)
    one, two = studies([opened(file), opened(table), opened(beside)])
    assert {(curve.method, curve.points[0].value.middle) for curve in one.curves} == {
        ("wanda", 7.0),
        ("wanda (imported)", 9.0),
    }
    assert one.dense[0].infer_flops == 1e6, "what the ledger here knows of the dense model stays"
    assert two.protocol == "q" and [curve.method for curve in two.curves] == ["wanda (imported)"]
    report.write([file, table, beside], tmp_path / "site")
    page = (tmp_path / "site" / "accuracy-llama-1.html").read_text()
    assert "wanda (imported)" in page and "judged elsewhere" in page
