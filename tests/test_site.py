"""Site: all pages of some results together: links that lead somewhere, data that a script can read."""

import json
import re
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from lines import ceilings, grid, header, line, write
from msgspec.structs import replace
from test_report import Strict

from suite import report
from suite.reading import frame
from suite.reading.strip import MOST, span, strip
from suite.reading.structure import varied
from suite.record import Ceilings, Recorded, Result, Run
from suite.report import Data, View, page_of

COMMITTED = sorted((Path(__file__).parent.parent / "results").glob("*/*.jsonl"))


def on(device: str, *lines) -> list:
    """The same lines from another device."""
    made = []
    for one in lines:
        if isinstance(one, Result | Ceilings):
            one = replace(one, device=device)
        elif isinstance(one, Run):
            one = replace(one, devices={device: {"kind": "cpu", "name": device.title()}})
        made.append(one)
    return made


def site(folder: Path, *files: list) -> dict[str, str]:
    """File name -> text of all files of a site of these files."""
    written = [write(folder / f"{number}.jsonl", *lines) for number, lines in enumerate(files)]
    report.write(written, folder / "site")
    return {file.name: file.read_text() for file in (folder / "site").iterdir()}


def value_of(text: str, name: str):
    """What a data file assigns."""
    start = f'(globalThis.sparsemark ??= {{}})["{name}"] = '
    assert text.startswith(start) and text.endswith(";\n")
    return json.loads(text.removeprefix(start).removesuffix(";\n"))


def check_links(files: dict[str, str]) -> None:
    """Every link within a site leads to a file, and to a place in it where it names one."""
    pages = {name: Strict() for name in files if name.endswith(".html")}
    for name, page in pages.items():
        page.feed(files[name])
        assert not page.stack and len(page.ids) == len(set(page.ids)), name
    for name, page in pages.items():
        for link in {unescape(link) for link in page.links if not link.startswith(("https://", "http://"))}:
            file, _, place = link.partition("#")
            assert (file or name) in pages, f"{name}: {link}"
            if place and file != "table.html":
                assert place in pages[file or name].ids, f"{name}: {link}"


@pytest.mark.skipif(not COMMITTED, reason="no results are committed")
def test_the_committed_results_are_a_site_whose_links_lead_somewhere(tmp_path: Path) -> None:
    report.write(COMMITTED, tmp_path / "site")
    files = {file.name: file.read_text() for file in (tmp_path / "site").iterdir()}
    check_links(files)
    made = frame.read(*COMMITTED)
    assert sum(name.startswith("case-") for name in files) == made["case"].nunique()
    assert sum(name.startswith("kernel-") for name in files) == made["kernel"].nunique()


def test_two_devices_meet_on_the_first_page_and_have_one_each(tmp_path: Path) -> None:
    files = site(tmp_path, list(grid(1)), on("other", *grid(2, crossover=0.6)))
    check_links(files)
    index = files["index.html"]
    assert "Devices and workloads" in index and index.count('<table class="answers"') == 2
    assert 'href="device-other.html">Other</a>' in index and 'href="device-made-up.html"' in index
    assert "60" in files["device-other.html"] and "bfloat16" in files["device-other.html"]
    case = files["case-spmm-m-1024-k-1024-n-64-unstructured-0-9-float32-seed-0-1b1129fc.html"]
    assert "made-up, cold cache" in case and "other, cold cache" in case


def test_the_tables_data_are_the_frames(tmp_path: Path) -> None:
    files = site(tmp_path, list(grid()))
    manifest = value_of(files["table-manifest.js"], "table-manifest")
    (chunk,) = manifest["chunks"]
    data = value_of(files[f"{chunk['name']}.js"], chunk["name"])
    made = frame.read(tmp_path / "0.jsonl")
    assert chunk["rows"] == data["rows"] == len(made)
    words = data["words"]["kernel"]
    assert [words["list"][code] for code in words["codes"]] == list(made["kernel"])
    assert data["numbers"]["median"] == [
        None if one != one else float(f"{one:.4g}") for one in made["median"]
    ]
    assert float("inf") in data["numbers"]["break_even"]  # never, which JavaScript can say and JSON cannot
    assert set(chunk["facets"]["status"]) == {"ok", "refused", "wrong", "timeout"}
    assert {column["name"] for column in manifest["columns"]} >= set(manifest["shown"])
    pages = data["words"]["page"]["list"]
    assert {f"{page}.html" for page in pages} <= set(files)


def test_links_into_the_table_say_what_they_mean(tmp_path: Path) -> None:
    lines = [line(workload="a & b", seconds=[1e-3] * 3)]
    report.render(View([Recorded(tmp_path / "run.jsonl", header(), lines, [], torn=False)]), tmp_path)
    (page,) = tmp_path.glob("workload-*.html")
    (link,) = {unescape(one) for one in re.findall(r'href="table\.html#([^"]*)"', page.read_text())}
    assert parse_qs(link) == {"workload": ["a & b"]}


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a/b", "a b", "a.b", "", "x" * 300, "ü", "javascript:alert(1)", "<script>"]
)
def test_a_page_is_called_what_a_file_may_be_called(name: str) -> None:
    made = page_of("case", name)
    assert re.fullmatch(r"case-[A-Za-z0-9_-]{1,90}", made)
    assert made != page_of("case", f"{name}.") and made == page_of("case", name)


def test_names_that_are_files_already_stay_as_they_are() -> None:
    assert page_of("kernel", "spmm_csr_tiled") == "kernel-spmm_csr_tiled"


def test_data_are_one_statement_whatever_is_in_them() -> None:
    text = Data({"a": ["</script>", '"', "\n", "\u2028"]}).script('x"]')
    assert text.count("\n") == 1 and text.endswith(";\n") and '["x\\"]"]' in text


def test_a_case_has_its_samples_structure_raw_lines_and_work(tmp_path: Path) -> None:
    given = {"structure": {"row_cv": 0.25, "unheard_of": 3.0, "empty_rows": None}, "note": ""}
    lines = [line(visit=visit, seconds=[1e-3, 1.1e-3], **given) for visit in (1, 2)]
    lines += [line(kernel="dense", dense=True, visit=visit, seconds=[2e-3] * 2) for visit in (1, 2)]
    files = site(tmp_path, [header(), ceilings(), *lines])
    (text,) = (text for name, text in files.items() if name.startswith("case-"))
    assert text.count('<svg class="strip"') == 2 and "visit 2: 2 samples, median 1.05 ms" in text
    assert "unevenness of row lengths" in text and ">0.25<" in text and "unheard_of" in text
    assert "without a nonzero" not in text
    assert text.count('"kind":"result"') == 4 and "The 4 lines as recorded" in text
    assert "The device reaches 2,000 GFLOP/s in float32" in text and 'class="bar"' in text


def test_a_kernel_says_what_papers_claim_as_theirs(tmp_path: Path) -> None:
    files = site(tmp_path, [header(), line(seconds=[1e-3] * 3, ids=["smat", "unheard-of"])])
    text = files["kernel-spmm_csr_mine.html"]
    assert "None of it was measured here" in text and "NVIDIA A100" in text and "unheard-of" not in text


def test_a_rank_stands_on_the_pages_of_its_device_and_kernel(tmp_path: Path) -> None:
    files = site(tmp_path, list(grid()))
    device, kernel = files["device-made-up.html"], files["kernel-spmm_csr_mine.html"]
    assert "0.50x timeout" in device and "covers 8 % of the cases" in device and "1 wrong" in device
    assert "spmm_csr_mine</span>" in device and "How it stands" in kernel and "timeout" not in kernel


def test_strips_are_as_long_as_their_samples_are_apart() -> None:
    ends = span([[1.0, 100.0]])
    made = strip({1: [1.0, 10.0, 100.0], 2: [10.0]}, ends, 'a "kernel"')
    assert "M0 0v10M500 0v10M1000 0v10" in made and "M500 14v10" in made and "a &quot;kernel&quot;" in made
    assert strip({1: [1.0] * 1000}, (1.0, 1.0), "").count("M0 0") == MOST


def test_structure_is_told_where_it_varies() -> None:
    def lines(cvs):
        for number, cv in enumerate(cvs):
            given = {"m": 1024 + number, "structure": {"row_cv": cv, "constant": 1.0}}
            yield line(seconds=[1e-3 * (1 + cv)] * 4, **given)
            yield line(kernel="dense", dense=True, seconds=[2e-3] * 4, **given)

    ((_, (relation,)),) = varied(frame.from_lines(lines([0.1, 0.5, 0.2, 0.9, 0.4])))
    assert (relation.name, round(relation.correlation, 9)) == ("row_cv", -1) and len(relation.rows) == 5
    assert varied(frame.from_lines(lines([0.1, 0.2]))) == []


def test_a_first_page_of_many_devices_stays_small(tmp_path: Path) -> None:
    sizes = ((1024, 1024, 1), (1024, 1024, 64), (1024, 1024, 512))
    few = {"sizes": sizes, "sparsities": (0.5, 0.9), "visits": 1, "samples": 2, "failures": False}
    files = site(tmp_path, *(on(f"device-{number}", *grid(number, **few)) for number in range(6)))
    assert len(files["index.html"]) < 500_000 * 6 / 60  # room for 60 of them
    assert sum(name.startswith("table-device-") for name in files) == 6
