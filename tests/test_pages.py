"""Pages: as a browser shows them: from disk, alone, on a phone, by day and by night."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import pandas as pd
import pytest
from lines import grid, line, write
from msgspec.structs import replace

from suite import report
from suite.reading import frame
from suite.reading.units import seconds, times
from suite.record import Result

pytestmark = pytest.mark.browser

QUIET = """
--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run
--disable-background-networking --disable-component-update --disable-sync
"""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE, SETTLED = 10.0, 0.2  # seconds: for what a page asks for, and for what it should not
LONG = "a reason that goes on " * 20 + "and_one_word_that_never_ends_" * 6

CONTRAST = """
const channel = c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const light = text => { const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map(channel);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const paper = light(getComputedStyle(document.body).backgroundColor);
let least = 99, where = "";
const words = "p, dt, dd, th, td, li, h1, a, strong, span, summary, svg text, label, button, select, code";
for (const one of document.querySelectorAll(words)) {
  const style = getComputedStyle(one);
  const ink = light(one.closest("svg") ? style.fill : style.color);
  const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  if (ratio < least) { least = ratio; where = one.tagName + " " + one.textContent.slice(0, 40); }
}
return [least, where];
"""


def varied(number: int, one):
    """A line, with a statistic that tells it from others."""
    return replace(one, structure={"row_cv": number / 100}) if isinstance(one, Result) else one


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    refused = [line(kernel="spmm_" + "long_" * 20, outcome="refused", note=LONG, sparsity=0.5)]
    lines = [varied(number, one) for number, one in enumerate(grid())]
    made = report.write([write(folder / "run.jsonl", *lines, *refused)], folder / "pages")
    return made.parent


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip(f"needs {'chromedriver' if chromium else 'Chromium'}, which is not installed here")
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="needs selenium, which is not installed here"
    )
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*QUIET.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


def show(browser, page: Path, width: int = 1280, scheme: str = "light") -> None:
    mobile = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", mobile)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(page.as_uri())


CASE = "case-spmm-m-1024-k-1024-n-64-unstructured-0-9-float32-seed-0-1b1129fc"
PAGES = (
    *("index", "limits", "workload-transformer", "device-made-up", "kernel-spmm_csr_mine"),
    *(CASE, "structure", "table", "how"),
)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_needs_nothing_but_itself(browser, site: Path, name: str) -> None:
    browser.get("about:blank")
    browser.get_log("performance")
    browser.get_log("browser")
    show(browser, site / f"{name}.html")
    data = ("table-manifest", "table-made-up-transformer") if name == "table" else ()
    needed = [(site / one).as_uri() for one in (f"{name}.html", *(f"{one}.js" for one in data))]
    asked, end = requests(browser), monotonic() + PATIENCE
    while len(asked) < len(needed) and monotonic() < end:  # a table asks for its rows once it is drawn
        asked += requests(browser)
    sleep(SETTLED)
    assert asked + requests(browser) == needed
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def requests(browser) -> list[str]:
    """What the page has asked for since the last look."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"]["request"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [one["url"] for one in sent if not one["url"].startswith("data:")]


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [320, 390, 800, 1280])
def test_a_page_never_scrolls_sideways(browser, site: Path, name: str, width: int) -> None:
    show(browser, site / f"{name}.html", width)
    browser.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")
    wide, room = browser.execute_script(
        "const page = document.documentElement; return [page.scrollWidth, page.clientWidth]"
    )
    assert wide <= room


@pytest.mark.parametrize("name", PAGES)
def test_a_page_reads_by_day_and_by_night(browser, site: Path, name: str) -> None:
    papers = []
    for scheme in ("light", "dark"):
        show(browser, site / f"{name}.html", scheme=scheme)
        least, where = browser.execute_script(CONTRAST)
        assert least >= 4.5, f"{scheme}: {where}"
        papers.append(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert papers[0] != papers[1]


STROKES = """
return [...new Set([...document.querySelectorAll("svg path")].map(one => getComputedStyle(one).stroke))];
"""


def test_figures_take_the_colours_of_the_page(browser, site: Path) -> None:
    by_day, by_night = set(), set()
    for scheme, colours in (("light", by_day), ("dark", by_night)):
        show(browser, site / "workload-transformer.html", scheme=scheme)
        colours |= set(browser.execute_script(STROKES)) - {"none"}
    assert len(by_day) >= 3 and not by_day & by_night


def test_from_the_index_to_a_workload_and_back(browser, site: Path) -> None:
    show(browser, site / "index.html", 390)
    browser.find_element("link text", "transformer").click()
    assert browser.title == "transformer – sparsemark"
    browser.find_element("link text", "sparsemark").click()
    assert browser.title.startswith("When does sparsity pay?")


NAMELESS = """
const nameless =
  "th:not([scope]), figure:not(:has(figcaption)), svg:not([aria-label]), .scroll:not([aria-label])," +
  "table:not(:has(caption)), label:not(:has(select, input)), :is(select, input):not(label *)";
return [...document.querySelectorAll(nameless)].map(one => one.outerHTML.slice(0, 80));
"""


@pytest.mark.parametrize("name", PAGES)
def test_tables_and_figures_are_named_for_those_who_do_not_see_them(browser, site: Path, name: str) -> None:
    show(browser, site / f"{name}.html")
    assert browser.execute_script(NAMELESS) == []


def test_a_click_copies_a_command(browser, site: Path) -> None:
    show(browser, site / "workload-transformer.html")
    grant = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    browser.execute_cdp_cmd("Browser.grantPermissions", grant)
    command = browser.find_element("css selector", "#failures code.command")
    command.click()
    assert clipboard(browser) == command.get_attribute("textContent")


def clipboard(browser) -> str:
    return browser.execute_async_script("navigator.clipboard.readText().then(arguments[0], arguments[0])")


def wait(ready, at_most: float = 10):
    """What `ready` returns, as soon as it is something."""
    end = monotonic() + at_most
    while not (found := ready()):
        assert monotonic() < end, "waited in vain"
        sleep(0.02)
    return found


def at_table(browser, site: Path, link: str = "") -> None:
    """The table, when it has what the link asks for. A new address, or only the hash would change."""
    browser.get("about:blank")
    show(browser, site / "table.html")
    if link:
        browser.get((site / "table.html").as_uri() + link)
    settle(browser)


def settle(browser) -> None:
    """Until what was asked for is shown."""
    done = "const told = document.querySelector('#count').textContent; return !told.startsWith('Loading')"
    wait(lambda: browser.execute_script(done))


def choose(browser, name: str, value: str) -> None:
    """As a reader's hand would."""
    browser.execute_script(
        "const field = document.querySelector(`#choose [name=${arguments[0]}]`); field.value = arguments[1];"
        "field.dispatchEvent(new Event('input', {bubbles: true}))",
        *(name, value),
    )
    settle(browser)


def column(browser, heading: str) -> list[str]:
    """The cells below a heading."""
    return browser.execute_script(
        "const table = document.querySelector('#results'), heads = [...table.tHead.rows[0].cells];"
        "const at = heads.findIndex(one => one.textContent.replace(/ [↑↓]$/, '') === arguments[0]);"
        "return [...table.tBodies[0].rows].map(row => row.cells[at].textContent)",
        heading,
    )


def count_of(browser) -> int:
    told = browser.find_element("id", "count").text
    return int(told.split(" of ")[1].split()[0].replace(",", ""))


def test_the_table_has_every_result_the_fastest_first(browser, site: Path) -> None:
    made = frame.read(site.parent / "run.jsonl")
    at_table(browser, site)
    assert count_of(browser) == len(made)
    best = made.sort_values("speed_up", ascending=False).iloc[0]
    low, high = times(best["speed_up_low"]), times(best["speed_up_high"])
    assert column(browser, "speed-up")[0] == f"{times(best['speed_up'])} ({low} – {high})"
    assert column(browser, "time")[0].startswith(seconds(best["median"]))
    assert column(browser, "kernel")[0] == best["kernel"]


def test_filters_hold_together(browser, site: Path) -> None:
    made = frame.read(site.parent / "run.jsonl")
    at_table(browser, site)
    choose(browser, "kernel", "spmm_csr_mine")
    assert count_of(browser) == (made["kernel"] == "spmm_csr_mine").sum()
    choose(browser, "sparsity_from", "80")
    choose(browser, "sparsity_to", "95")
    assert set(column(browser, "sparsity")) == {"80 %", "90 %", "95 %"}
    choose(browser, "n_to", "1")
    assert set(column(browser, "sizes")) == {"1024 × 1024, n 1"}
    choose(browser, "search", "4096")
    assert count_of(browser) == 0
    choose(browser, "search", "")
    choose(browser, "status", "wrong")
    assert count_of(browser) == 0


def test_a_heading_sorts_both_ways_and_what_is_not_known_stays_last(browser, site: Path) -> None:
    at_table(browser, site)
    click = "document.querySelectorAll('#results thead button')[arguments[0]].click()"
    heads = browser.execute_script(
        "return [...document.querySelectorAll('#results thead button')].map(one => one.textContent)"
    )
    for sort in ("ascending", "descending"):
        browser.execute_script(click, heads.index("time"))
        settle(browser)
        times_ = browser.execute_script("return document.querySelector('th[aria-sort]').ariaSort")
        assert times_ == sort
        known = [one != "–" for one in column(browser, "time")]
        assert known == sorted(known, reverse=True)
    browser.execute_script(click, heads.index("kernel"))
    kernels = column(browser, "kernel")
    assert kernels == sorted(kernels)


VIEW = """
const fields = [...document.querySelectorAll('#choose [name]')];
return [location.hash, document.querySelector('#results').innerText,
  fields.map(one => one.type === 'checkbox' ? one.checked : one.value)];
"""


def test_a_link_restores_the_exact_view(browser, site: Path) -> None:
    at_table(browser, site)
    choose(browser, "kernel", "spmm_csr_mine")
    choose(browser, "sparsity_from", "70")
    choose(browser, "search", "1024 × 1024")
    browser.execute_script("document.querySelector('#choose [value=regime]').click()")
    browser.execute_script("document.querySelectorAll('#results thead button')[1].click()")
    settle(browser)
    link, *shown = browser.execute_script(VIEW)
    assert "search=1024+%C3%97+1024" in link and "regime" in link
    at_table(browser, site, link)
    assert browser.execute_script(VIEW) == [link, *shown]
    browser.find_element("css selector", "[data-does=reset]").click()
    settle(browser)
    assert count_of(browser) > 50 and browser.execute_script("return location.hash") == ""


def test_a_link_to_what_is_not_there_shows_everything(browser, site: Path) -> None:
    at_table(browser, site, "#kernel=<script>&sort=nothing&columns=kernel,nothing&sparsity_from=many")
    assert count_of(browser) > 50 and len(set(column(browser, "kernel"))) > 4


@pytest.mark.parametrize(
    ("kind", "begins", "holds"),
    [
        ("csv", "kernel,sparsity,sizes", "spmm_csr_mine,0.99,"),
        ("markdown", "| kernel | sparsity |", "| spmm_csr_mine | 99 % |"),
        ("latex", "\\begin{tabular}{lrl", "spmm\\_csr\\_mine & 99 \\% & 1024 $\\times$ 1024"),
        ("link", "file://", "table.html#kernel=spmm_csr_mine"),
    ],
)
def test_what_is_shown_can_be_copied(browser, site: Path, kind: str, begins: str, holds: str) -> None:
    at_table(browser, site, "#kernel=spmm_csr_mine")
    grant = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    browser.execute_cdp_cmd("Browser.grantPermissions", grant)
    browser.find_element("css selector", f"[data-does={kind}]").click()
    copied = wait(lambda: clipboard(browser))
    assert copied.startswith(begins) and holds in copied


def test_what_is_shown_can_be_downloaded(browser, site: Path, tmp_path: Path) -> None:
    where = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", where)
    at_table(browser, site, "#kernel=spmm_csr_mine&columns=kernel,sizes,median,speed_up,joules")
    number = count_of(browser)
    read = {"json": pd.read_json, "parquet": pd.read_parquet}
    for kind in read:
        browser.find_element("css selector", f"[data-does={kind}]").click()
    files = {kind: tmp_path / f"sparsemark.{kind}" for kind in read}
    wait(lambda: all(file.is_file() for file in files.values()))
    told = {kind: read[kind](file) for kind, file in files.items()}
    pd.testing.assert_frame_equal(told["json"], told["parquet"], check_dtype=False)
    assert len(told["parquet"]) == number and set(told["parquet"]["kernel"]) == {"spmm_csr_mine"}
    assert {"median", "low", "high", "speed_up_high"} <= set(told["parquet"])


def test_the_table_is_used_by_keys_alone(browser, site: Path) -> None:
    at_table(browser, site)
    reached = set()
    body = browser.find_element("tag name", "body")
    for _ in range(45):
        body.send_keys("\ue004")  # the tab key
        body = browser.switch_to.active_element
        reached.add(
            browser.execute_script("const one = document.activeElement; return one.name || one.tagName")
        )
    assert {"kernel", "search", "sparsity_from", "BUTTON", "SUMMARY", "A"} <= reached


FILTERED = """
const [name, value, done] = arguments, body = document.querySelector("#results tbody");
const field = document.querySelector(`#choose [name=${name}]`), began = performance.now();
const seen = new MutationObserver(() => {
  seen.disconnect();
  document.body.offsetHeight;
  done(performance.now() - began);
});
seen.observe(body, {childList: true});
field.value = value;
field.dispatchEvent(new Event("input", {bubbles: true}));
"""


def test_a_table_of_many_results_filters_while_one_types(browser, site: Path, tmp_path: Path) -> None:
    """33,000: what 100,000 lines of three visits make. The least of three times: machines are shared."""
    copied = Path(shutil.copytree(site, tmp_path / "many"))
    name = "table-made-up-transformer"
    for file, scaled in ((copied / f"{name}.js", many), (copied / "table-manifest.js", most)):
        head, _, told = file.read_text().partition(" = ")
        value = json.loads(told.rstrip(";\n"))
        file.write_text(f"{head} = {json.dumps(scaled(value))};\n")
    at_table(browser, copied, "#sort=median")
    assert count_of(browser) > 33_000
    for question in (
        ("kernel", "spmm_csr_mine"),
        ("search", "1024"),
        ("sparsity_from", "80"),
        ("kernel", ""),
    ):
        choose(browser, *question)
        took = []
        for _ in range(3):
            took.append(browser.execute_async_script(FILTERED, *question))
        assert min(took) < 200, question


TIMES = 440


def many(chunk: dict) -> dict:
    """A chunk of the table, over and over."""
    words = {name: one | {"codes": one["codes"] * TIMES} for name, one in chunk["words"].items()}
    numbers = {name: values * TIMES for name, values in chunk["numbers"].items()}
    return {"rows": chunk["rows"] * TIMES, "words": words, "numbers": numbers}


def most(manifest: dict) -> dict:
    """Its manifest."""
    return manifest | {"chunks": [one | {"rows": one["rows"] * TIMES} for one in manifest["chunks"]]}


COMMITTED = sorted((Path(__file__).parent.parent / "results").glob("*/*.jsonl"))


@pytest.mark.skipif(not COMMITTED, reason="no results are committed")
def test_every_page_of_the_committed_results_renders(browser, tmp_path: Path) -> None:
    site = report.write(COMMITTED, tmp_path / "site").parent
    browser.get_log("browser")
    for page in site.glob("*.html"):
        show(browser, page, 390)
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == [], page
        wide, room = browser.execute_script(
            "const page = document.documentElement; return [page.scrollWidth, page.clientWidth]"
        )
        assert wide <= room, page
