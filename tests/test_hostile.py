"""Hostile: a results file may hold anything. What can do harm is named and left out; nothing else is lost."""

import json
import os
import re
import tracemalloc
from copy import deepcopy
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lines import grid, header, line

from suite import harmless, report
from suite.cli import main
from suite.reading import frame
from suite.reading.limits import limits
from suite.reading.state import states
from suite.record import decode, encode, read
from suite.submitting.check import check

SCRIPT = "<script>alert(1)</script>"
GOOD: list[dict[str, Any]] = [
    json.loads(encode(one)) for one in grid(visits=2, sparsities=(0.5, 0.9), sizes=((64, 64, 4),), samples=4)
]
AT = 5  # a result among them
NAMES = ("device", "workload", "op", "case", "pattern", "dtype", "kernel", "kernel_hash", "data", "selector")

BAD_NAMES = {
    "script": SCRIPT,
    "scheme": "javascript:alert(1)",
    "upwards": "../../../tmp/escaped",
    "absolute": "/etc/passwd",
    "option": "--out=/tmp/escaped",
    "hidden": ".bashrc",
    "megabyte": "x" * 10**6,
    "long": "x" * 1000,
    "control": "a\x1b[31mb\x00",
    "newline": "spmm\n",
    "right to left": "a\u202egnp.exe",
    "unseen": "a\u200bb",
    "quote": "a\" onload='x",
    "template": "{{ 7 * 7 }}",
    "half a character": "\ud800",
}

BAD_VALUES: dict[str, dict[str, Any]] = {
    "huge seed": {"seed": 10**30},
    "negative seed": {"seed": -1},
    "huge size": {"sizes": {"m": 2**40, "k": 64, "n": 4}},
    "no size": {"sizes": {"m": 0, "k": 64, "n": 4}},
    "size": {"sizes": {"<b>": 1}},
    "calls": {"calls": 10**9},
    "samples": {"seconds": [1e-3] * 200_000},
    "time": {"seconds": [1e300]},
    "no time": {"seconds": [1e-300]},
    "negative time": {"seconds": [-1e-3]},
    "words for numbers": {"seconds": ["1"]},
    "flops": {"flops_useful": 2**63},
    "sparsity": {"sparsity": 1.5},
    "clock": {"clock_mhz": 1e300},
    "structure": {"structure": {SCRIPT: 1.0}},
    "note": {"note": "x" * 10**5},
    "bell": {"note": "a\x07"},
    "turned": {"energy_note": "\u2067"},
    "outcome": {"outcome": SCRIPT},
    "kind": {"kind": SCRIPT},
    "unknown": {SCRIPT: 1},
    "moment": {"started": SCRIPT},
    "visit": {"visit": 10**9},
    "nothing": {"case": None},
}

BAD_LINES = {
    "not a number": b'{"kind":"result","seed":NaN}',
    "infinity": b'{"kind":"result","seconds":[Infinity]}',
    "too large": b'{"kind":"ceilings","device":"a","flops":{"float32":1e999},"bandwidth":{}}',
    "deep": b'{"kind":"run","options":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep and open": b"[" * 500_000,
    "bytes": b'{"kind":"result","device":"\xff\xfe"}',
    "nothing": b"\x00" * 100,
    "another": b"[1, 2]",
    "long": b'{"kind":"result","note":"' + b"a" * (3 << 20) + b'"}',
    "long without end": b"a" * (2 << 20),
    "no ceiling": b'{"kind":"ceilings","device":"made-up","flops":{"float32":0},"bandwidth":{"memory":0},'
    b'"started":"2026-01-02T03:04:05+00:00"}',
}

BAD_HEADERS: dict[str, dict[str, Any]] = {
    "schema": {"schema": 2},
    "huge schema": {"schema": 10**18},
    "device": {"devices": {"../x": {}}},
    "device's name": {"devices": {"made-up": {"name": [SCRIPT]}}},
    "megabyte name": {"devices": {"made-up": {"name": "x" * 10**5}}},
    "fingerprint": {"devices": {"made-up": {"fingerprint": "x"}}},
    "caches": {"devices": {"made-up": {"caches": {"L1d": 5}}}},
    "shared": {"devices": {"made-up": {"caches": {"L1d": {"bytes": 1, "shared_by": -1}}}}},
    "plug-in": {"plugins": [{"file": "../../mine.py"}]},
    "plug-in's option": {"plugins": [{"file": "--out.py"}]},
    "plug-in's name": {"plugins": [{"distribution": "a\x1b[2J"}]},
    "extent": {"options": {"extent": [1]}},
    "nested": {"options": {"a": {"b": {"c": {"d": {"e": {"f": {"g": 1}}}}}}}},
    "many": {"options": {"case": ["x"] * 10_000}},
    "number": {"options": {"budget": 1e300}},
    "library": {"libraries": {SCRIPT: "1"}},
    "version": {"libraries": {"torch": SCRIPT}},
    "commit": {"commit": SCRIPT},
    "workload": {"workloads": {SCRIPT: 1}},
    "planned": {"planned": -5},
    "elsewhere": {"elsewhere": {SCRIPT: 1}},
}


class Page(HTMLParser):
    """What of a page a browser would act on."""

    def __init__(self) -> None:
        super().__init__()
        self.acts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src", "action", "formaction", "xlink:href") and value:
                if re.match(r"\s*(javascript|vbscript):|//|\.\./|/|data:(?!,)", value, re.IGNORECASE):
                    self.acts.append(f"{name}={value[:50]}")
            elif name.startswith("on"):
                self.acts.append(name)


def put(file: Path, lines: list[Any]) -> Path:
    """Lines as they are: bytes, or objects whose strings may be halves of characters."""
    texts = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in lines]
    file.write_bytes(b"".join(text + b"\n" for text in texts))
    return file


def changed(at: int, **changes: Any) -> list[dict[str, Any]]:
    made = deepcopy(GOOD)
    made[at] |= changes
    return made


def survives(folder: Path, file: Path) -> dict[str, str]:
    """The pages of a file, with nothing in them that acts, and nothing beside them."""
    site = folder / "inner" / "site"
    before = {one for one in folder.rglob("*") if site not in one.parents}
    report.write([file], site)
    after = {one for one in folder.rglob("*") if site not in one.parents}
    assert after - before <= {site, site.parent}
    pages = {
        str(one.relative_to(site)): one.read_text(encoding="utf-8")
        for one in site.rglob("*")
        if one.is_file()
    }
    for name, text in pages.items():
        assert re.fullmatch(r"[\w-]+\.(html|js|json|css)", name), name
        assert "<script>alert" not in text or not name.endswith(".html")
        assert len(text) < 2_000_000
        assert not harmless.UNSEEN.search(re.sub(r"[\n\t\xad\u200b]", "", text)), name
        if name.endswith(".html"):
            page = Page()
            page.feed(text)
            assert not page.acts, name
    return pages


def left_out(file: Path, number: int) -> None:
    """A line is named, by its number and in a sentence that can be printed, and no other is lost."""
    found = read(file)
    assert {one.line for one in found.faults} == {number}, found.faults
    for one in found.faults:
        assert len(one.says) < 500 and not harmless.UNSEEN.search(one.says)
    assert len(found.lines) == len(file.read_bytes().splitlines()) - 1


@pytest.mark.parametrize("where", NAMES)
def test_a_name_that_could_do_harm_is_named_and_left_out(where: str, tmp_path: Path) -> None:
    for what, name in BAD_NAMES.items():
        if (where, what) != ("data", "hidden"):  # a file of that name may hold a matrix
            left_out(put(tmp_path / "run.jsonl", changed(AT, **{where: name})), AT + 1)


@pytest.mark.parametrize("what", BAD_VALUES)
def test_a_value_that_could_do_harm_is_named_and_left_out(what: str, tmp_path: Path) -> None:
    left_out(put(tmp_path / "run.jsonl", changed(AT, **BAD_VALUES[what])), AT + 1)


@pytest.mark.parametrize("what", BAD_LINES)
def test_a_line_that_is_none_is_named_and_left_out(what: str, tmp_path: Path) -> None:
    found = read(put(tmp_path / "run.jsonl", [*GOOD, BAD_LINES[what], GOOD[AT] | {"visit": 3}]))
    assert {one.line for one in found.faults} == {len(GOOD) + 1}
    assert len(found.lines) == len(GOOD) + 1 and found.lines[-1].visit == 3  # pyright: ignore


@pytest.mark.parametrize("what", BAD_HEADERS)
def test_a_header_that_could_do_harm_takes_its_file_with_it(what: str, tmp_path: Path) -> None:
    file = put(tmp_path / "run.jsonl", changed(0, **BAD_HEADERS[what]))
    left_out(file, 1)
    assert read(file).run is None and frame.read(file).empty


def test_all_of_it_at_once_is_a_page_that_names_it(tmp_path: Path) -> None:
    bad = [GOOD[AT] | {where: name} for where in NAMES[:-2] for name in BAD_NAMES.values()]
    bad += [GOOD[AT] | changes for changes in BAD_VALUES.values()]
    file = put(tmp_path / "run.jsonl", [*GOOD, *bad, *BAD_LINES.values()])
    found = read(file)
    assert len({one.line for one in found.faults}) == len(bad) + len(BAD_LINES)
    assert len(found.lines) == len(GOOD)
    pages = survives(tmp_path, file)
    alone = survives(tmp_path / "alone", put(made(tmp_path / "alone") / "run.jsonl", GOOD))
    assert set(pages) == set(alone)
    assert f"line {len(GOOD) + 1}: " in pages["index.html"]


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("what", ["device", "schema", "extent", "fingerprint", "caches"])
def test_a_bad_file_beside_a_good_one_breaks_nothing(what: str, tmp_path: Path) -> None:
    good = put(tmp_path / "good.jsonl", GOOD)
    bad = put(tmp_path / "bad.jsonl", changed(0, **BAD_HEADERS[what]))
    text = report.write([good, bad], tmp_path / "site").read_text()
    assert "bad.jsonl" in text and "line 1: " in text
    assert len(frame.read(good, bad)) == len(frame.read(good))
    assert report.earlier(bad) is None


def test_validate_names_them_and_prints_nothing_that_acts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = [GOOD[AT] | {where: name} for where in NAMES[:-2] for name in BAD_NAMES.values()]
    bad += [{SCRIPT + "\x1b[2J" + "x" * 10**5: 1}, {"kind": "\x1b[2J\u202e"}]
    file = put(tmp_path / "run.jsonl", [*GOOD, *bad])
    for words in (("validate",), ("validate", "--submission"), ("submit",)):
        (tmp_path / "results").mkdir(exist_ok=True)
        os.chdir(tmp_path)
        with pytest.raises(SystemExit) as ended:
            main([*words, str(file)])
        assert ended.value.code == 1
        said = capsys.readouterr().out
        assert not harmless.UNSEEN.search(said.replace("\n", "")) and len(said) < 10**6
        for number in range(len(GOOD) + 1, len(GOOD) + len(bad) + 1):
            assert f"run.jsonl:{number}: " in said
    assert not list((tmp_path / "results").iterdir())


def test_free_words_are_shown_as_words(tmp_path: Path) -> None:
    made = changed(
        AT, outcome="broken", seconds=[], calls=0, note=f"{SCRIPT} javascript:x ../ {{{{ 7 * 7 }}}}"
    )
    file = put(tmp_path / "run.jsonl", made)
    assert not read(file).faults
    assert any("&lt;script&gt;alert(1)" in text for text in survives(tmp_path, file).values())


def test_what_we_write_can_be_read(tmp_path: Path) -> None:
    note = "\x1b[31merror:\x1b[0m a\nb\u202e" + "x" * 5000
    file = tmp_path / "run.jsonl"
    file.write_bytes(encode(header()) + encode(line(outcome="broken", note=note, algorithm="a\tb")))
    (found,) = read(file).results
    assert not read(file).faults
    assert len(found.note) == harmless.LONGEST_SENTENCE and found.note.endswith("x…") and "a b" in found.note
    assert found.algorithm == "a b"


def test_a_file_without_end_takes_no_memory_of_its_size(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    with file.open("wb") as opened:
        opened.truncate(1 << 28)  # a line that is on no disk
    tracemalloc.start()
    (fault, *_) = read(file).faults
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()
    assert "longer than 1,048,576 bytes" in fault.says


PIECES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.floats(1e-10, 1e7),
    st.integers(0, 2**62),
    st.lists(st.floats(1e-10, 1e7), min_size=1, max_size=3),
    st.text(max_size=20),
    st.sampled_from([*BAD_NAMES.values(), "", "0:0", "block0x0@0.5", "butterfly99999999999", "rmat@1e-300"]),
    st.sampled_from(["given", "float64", "spgemm", "stencil0", "1:0:g0", "0:0:0", "banded@0", "fanin@9e999"]),
)
PARTS = st.recursive(
    PIECES, lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=5), part)
)


def mutated(folder: Path, data: st.DataObject) -> Path:
    """A good file in which any fields of any lines, and any bytes, are others."""
    lines = deepcopy(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        one = lines[data.draw(st.integers(0, len(lines) - 1))]
        name = data.draw(st.sampled_from(sorted(one)))
        if isinstance(one[name], dict) and one[name] and data.draw(st.booleans()):
            one[name][data.draw(st.sampled_from(sorted(one[name])))] = data.draw(PARTS)
        else:
            one[name] = data.draw(PARTS)
    file = put(folder / "run.jsonl", lines)
    raw = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(0, 2))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(raw)
    return file


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_change_of_a_good_file_is_survived(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    found = read(mutated(tmp_path_factory.mktemp("hostile", numbered=True), data))
    check(found)
    states([found])
    frame.tidy([found])
    limits([found])


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_change_of_a_good_file_has_harmless_pages(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("hostile", numbered=True)
    survives(folder, mutated(folder, data))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_line_is_read_or_named(data: st.DataObject) -> None:
    """Whatever decodes can be written again and is the same: nothing sound is lost or changed."""
    made = deepcopy(GOOD[data.draw(st.integers(0, len(GOOD) - 1))])
    made[data.draw(st.sampled_from(sorted(made)))] = data.draw(PARTS)
    try:
        one = msgspec.json.decode(json.dumps(made), type=dict)
    except ValueError:  # NaN
        return
    try:
        found = decode(json.dumps(one).encode())
    except ValueError as wrong:
        assert not harmless.UNSEEN.search(str(wrong)) and len(str(wrong)) < 500
    else:
        assert decode(encode(found)) == found
