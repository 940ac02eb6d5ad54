"""Report: pages from any file, however little is in it, with everything in them escaped."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from lines import grid, header, line, score, write
from msgspec.structs import replace

from suite import report
from suite.reading import figures, frame
from suite.reading.svg import svg
from suite.record import Recorded
from suite.registry import Unusable, discover
from suite.report import REPORTS, View

HOSTILE = "<script>alert(1)</script>\"'&{{ 7 * 7 }}"


class Strict(HTMLParser):
    """Counts what opens and closes."""

    void = frozenset({"meta", "link", "br", "path", "use", "rect", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.ids: list[str] = []
        self.asked: list[str] = []  # what a browser fetches unasked
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.asked += [given.get("src") or ""] if "src" in given else []
        self.asked += [given.get("href") or ""] if tag == "link" else []
        self.links += [given.get("href") or ""] if tag == "a" else []
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in self.void:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.void:
            assert self.stack.pop() == tag


def pages(folder: Path, *lines, name: str = "run.jsonl") -> dict[str, str]:
    index = report.write([write(folder / name, *lines)], folder / "site")
    assert index == folder / "site" / "index.html"
    return {file.stem: file.read_text() for file in (folder / "site").glob("*.html")}


FILES = {
    "usual": list(grid()),
    "one visit": list(grid(visits=1)),
    "one sparsity": list(grid(sparsities=(0.9,))),
    "empty": [header()],
    "no header": list(grid())[2:],
    "no ceilings": [one for one in grid() if one.__class__.__name__ != "Ceilings"],
    "with scores": [*grid(visits=2), score()],
    "only refused": [header(), line(outcome="refused", note="needs a GPU")],
    "only dense": [header(), line(dense=True, seconds=[1e-3])],
    "only sparse": [header(), line(seconds=[1e-3])],
    "from a matrix": [header(), line(pattern="given", data="a.mtx-01234567", seconds=[1e-3] * 3)],
    "without sparsity": [header(), replace(line(pattern="given", seconds=[1e-3] * 3), sparsity=None)],
}


@pytest.mark.parametrize("lines", FILES.values(), ids=FILES)
def test_every_file_has_sound_pages(lines: list, tmp_path: Path) -> None:
    for text in pages(tmp_path, *lines).values():
        page = Strict()
        page.feed(text)
        assert not page.stack
        assert len(page.ids) == len(set(page.ids))
        assert set(page.asked) <= {"data:,", "table-manifest.js"}
        assert "@import" not in text and "url(http" not in text


def test_an_empty_file_says_that_nothing_was_measured(tmp_path: Path) -> None:
    made = pages(tmp_path, header())
    assert set(made) == {"index", "how"} and "Nothing was measured" in made["index"]
    assert 'href="table.html"' not in made["index"]


def test_the_index_answers_first_and_tells_what_is_missing(tmp_path: Path) -> None:
    file = write(tmp_path / "run.jsonl", *grid(), line(seconds=[-1.0]))
    with file.open("ab") as more:
        more.write(b'{"kind":"result","dev')
    text = report.write([file], tmp_path / "site").with_name("index.html").read_text()
    assert text.index("83\N{NO-BREAK SPACE}%") < text.index("What was measured")
    assert re.search(r"<strong>2 of 3</strong>", text)
    assert "74 ok, 2 refused, 1 wrong, 1 timeout." in text
    assert ">8</td>" in text  # left out
    assert "last line is torn" in text and "a time is not positive" in text
    assert "not measured: no scores of the layers that were timed" in text
    assert 'href="workload-transformer.html"' in text


def test_a_workload_has_its_crossovers_figures_failures_and_commands(tmp_path: Path) -> None:
    made = pages(tmp_path, *grid())
    text = made["workload-transformer"]
    assert text.count("<svg") == text.count("<figcaption>") == 3 + 4
    cases = [page for name, page in made.items() if name.startswith("case-")]
    assert sum(page.count('<code class="command"') for page in cases) == 18 * 4 + 6
    for words in (
        "no answer after 60 s",
        "needs amx_bf16",
        "3e+04 times",
        "no sparse kernel for bfloat16 here",
    ):
        assert words in text
    assert "--case spmm/m=1024,k=1024,n=64/unstructured@0.5/float32/seed=0 --kernels spmm_blocked" in text


def test_what_was_not_measured_is_never_zero(tmp_path: Path) -> None:
    text = pages(tmp_path, *grid(visits=1))["workload-transformer"]
    assert "nan" not in re.sub(r"<[^>]*>", "", text).lower() and "0.00 J" not in text


@pytest.mark.parametrize(
    "where", ["note", "kernel", "workload", "data", "device", "pattern", "case", "energy_note", "throttle"]
)
def test_hostile_words_are_only_words(where: str, tmp_path: Path) -> None:
    """Even in lines that no reader of files would have let through."""
    given = {"note": "fine"} | {where: HOSTILE}
    lines = [line(outcome="refused", sparsity=0.5, **given)]
    for sparsity in (0.5, 0.9):
        timed = given | {"note": "", "sparsity": sparsity}
        lines.append(line(seconds=[1e-3] * 4, **timed))
        lines.append(line(seconds=[2e-3] * 4, **(timed | {"kernel": "dense", "dense": True})))
    run = header(libraries={HOSTILE: HOSTILE})
    report.render(View([Recorded(tmp_path / "run.jsonl", run, lines, [], torn=False)]), tmp_path / "site")
    assert len(list((tmp_path / "site").glob("table-*.js"))) == 2
    made = {file.stem: file.read_text() for file in (tmp_path / "site").glob("*.html")}
    assert len(made) >= 8  # index, how, table, a workload, a device, two kernels, a case
    for name, text in made.items():
        assert re.fullmatch(r"[A-Za-z0-9_-]+", name)
        assert text.count("<script") == (3 if name == "table" else 1) and "alert(1)</script>" not in text
        page = Strict()
        page.feed(text)
        assert not page.stack
    assert "{{ 7 * 7 }}" in made["index"]


def test_the_same_lines_are_the_same_pages(tmp_path: Path) -> None:
    assert pages(tmp_path / "a", *grid()) == pages(tmp_path / "b", *grid())


def test_two_runs_state_their_agreement(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{seed}.jsonl", *grid(seed)) for seed in (1, 2)]
    text = report.write(files, tmp_path / "site").read_text()
    assert "Two runs of commit c0ffee5 on made-up (1.jsonl and 2.jsonl)" in text


def test_a_run_beside_feeds_the_agreement_alone(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{seed}.jsonl", *grid(seed)) for seed in (1, 2)]
    alone = report.write(files[1:], tmp_path / "alone").read_text()
    text = report.write(files[1:], tmp_path / "site", beside=files[:1]).read_text()
    told = [row for row in text.splitlines() if "Two runs of commit c0ffee5" in row]
    assert len(told) == 1 and "(1.jsonl and 2.jsonl)" in told[0] and "of the 18 cases" in told[0]
    assert text.replace(told[0] + "\n", "") == alone


def test_the_run_to_hold_another_against_is_the_newest_like_it_before_it(tmp_path: Path) -> None:
    def put(name: str, started: str, **about) -> Path:
        return write(tmp_path / name, header(started=f"2026-01-02T0{started}:00:00+00:00", **about))

    latest = put("e.jsonl", "5")
    assert report.earlier(latest) is None
    put("a.jsonl", "1")
    same = put("b.jsonl", "2")
    put("c.jsonl", "3", commit="0ther")
    put("d.jsonl", "3", options={"extent": "full"})
    put("f.jsonl", "4", devices={"other": {}})
    put("g.jsonl", "6")
    (tmp_path / "h.jsonl").write_text("nonsense\n")
    write(tmp_path / "i.jsonl", line(seconds=[1.0]))
    write(tmp_path / "elsewhere" / "j.jsonl", header(started="2026-01-02T04:00:00+00:00"))
    assert report.earlier(latest) == same
    assert report.earlier(put("k.jsonl", "7", commit=None)) is None


def test_a_file_that_is_not_there_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match=r"no results file 'nowhere\.jsonl'\. `sparsemark run` writes one\."):
        report.write(["nowhere.jsonl"], tmp_path)


def test_every_report_has_its_template_and_says_what_it_is() -> None:
    discover(folders=("reports",))
    assert {"index", "workload"} <= set(REPORTS)
    for one in REPORTS.values():
        assert one.template.is_file() and one.about.endswith((".", "?"))


def test_a_report_from_elsewhere_is_a_file_and_its_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = tmp_path / "counts.py"
    plugin.write_text(
        "from suite.report import report\n@report\ndef counts(view):\n"
        "    '''How many.'''\n    return {'rows': len(view.frame)}\n"
    )
    plugin.with_suffix(".html").write_text(
        '{% extends "layout.html" %}{% block body %}<p>{{ rows }} rows</p>{% endblock %}'
    )
    discover(folders=("reports",))
    monkeypatch.setattr(report, "REPORTS", dict(REPORTS))
    discover([plugin], folders=("reports",))
    assert "78 rows" in pages(tmp_path, *grid())["counts"]


@pytest.mark.parametrize("setup", [0.001, 0.00513, 0.01, 0.3])
def test_numbers_of_calls_are_told_apart(setup: float, tmp_path: Path) -> None:
    lines = grid(sizes=((1024, 1024, 64),), sparsities=(0.9,), failures=False, setup_seconds=setup)
    drawn = figures.break_even(frame.read(write(tmp_path / "run.jsonl", *lines)))
    (axes,) = drawn.axes
    drawn.canvas.draw()
    low, high = axes.get_ylim()
    labels = [label.get_text() for label in axes.get_yticklabels() if low <= label.get_position()[1] <= high]
    assert len(labels) > 1 and len(labels) == len(set(labels))


@pytest.mark.parametrize("draw", [figures.speed_up, figures.realised, figures.roofline, figures.break_even])
def test_figures_are_text_in_the_pages_colours_and_always_the_same(draw, tmp_path: Path) -> None:
    made = frame.read(write(tmp_path / "run.jsonl", *grid()))
    one, again = (svg(draw(made), "a", 'says "<"') for _ in range(2))
    assert one == again
    assert "<text" in one and "currentColor" in one and "var(--series-1" in one
    assert "<title>" in one
    assert 'role="img" aria-label="says &quot;&lt;&quot;"' in one and "<metadata" not in one
    assert "nothing to show" in svg(draw(made.iloc[:0]), "b", "")


def test_a_band_of_visits_that_differ_wildly_does_not_flatten_the_lines(tmp_path: Path) -> None:
    made = frame.read(write(tmp_path / "run.jsonl", *grid()))
    wild = made.assign(speed_up_low=made["speed_up"] / 1e6, speed_up_high=made["speed_up"] * 1e6)
    (axes,) = figures.speed_up(wild).axes
    values = [one for line in axes.lines for one in line.get_ydata()]
    low, high = axes.get_ylim()
    assert min(values) / 4 < low < min(values) and max(values) < high < max(values) * 4


def test_energy_and_the_roofline_are_drawn_where_they_are_measured(tmp_path: Path) -> None:
    made = frame.read(write(tmp_path / "run.jsonl", *grid())).assign(joules=2.0, joules_saved=1.0)
    spent = figures.energy(made).axes[0]
    assert {float(y) for line in spent.lines[:-1] for y in line.get_ydata()} == {1.5}
    best = made[made["best"]]
    ceilings, sparse, dense = figures.sparse_roofline(best, 2e12, 1e11).axes[0].lines
    assert list(ceilings.get_ydata())[1:] == [2e12, 2e12]
    assert (len(sparse.get_xdata()), len(dense.get_xdata())) == (18, best["dense"].sum())


def test_kernels_for_devices_that_are_not_there_are_counted(tmp_path: Path) -> None:
    made = pages(tmp_path, header(elsewhere={"cuda": 12}), line(seconds=[1e-3]))
    assert "12 kernels for cuda not run: no such device is in these files" in made["index"]


def test_energy_is_told_by_the_call_by_the_flop_and_net_of_idle(tmp_path: Path) -> None:
    window = {"cache": "rotating", "visit": 4, "seconds": [1e-3], "timer": "window", "energy_note": None}
    window |= {"joules_counter": 0.4, "joules_integral": 0.39, "idle_watts": 100.0}
    lines = [*(line(visit=visit, seconds=[1e-3] * 4) for visit in (1, 2, 3)), line(**window)]
    made = pages(tmp_path, header(), *lines)
    (page,) = (text for name, text in made.items() if name.startswith("case-"))
    assert "400 mJ" in page and "29.8 nJ a useful FLOP, 300 mJ net of idle" in page
