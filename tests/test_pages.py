"""Pages: as a browser shows them: from disk, alone, on a phone, by day and by night."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from lines import grid, line, write

from suite import report

pytestmark = pytest.mark.browser

QUIET = """
--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run
--disable-background-networking --disable-component-update --disable-sync
"""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LONG = "a reason that goes on " * 20 + "and_one_word_that_never_ends_" * 6

CONTRAST = """
const channel = c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const light = text => { const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map(channel);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const paper = light(getComputedStyle(document.body).backgroundColor);
let least = 99, where = "";
const words = "p, dt, dd, th, td, li, h1, h2, a, strong, figcaption, summary, svg text";
for (const one of document.querySelectorAll(words)) {
  const style = getComputedStyle(one);
  const ink = light(one.closest("svg") ? style.fill : style.color);
  const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  if (ratio < least) { least = ratio; where = one.tagName + " " + one.textContent.slice(0, 40); }
}
return [least, where];
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    refused = [line(kernel="spmm_" + "long_" * 20, outcome="refused", note=LONG, sparsity=0.5)]
    made = report.write([write(folder / "run.jsonl", *grid(), *refused)], folder / "pages")
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


PAGES = ("index", "limits", "workload-transformer")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_needs_nothing_but_itself(browser, site: Path, name: str) -> None:
    browser.get_log("performance")
    browser.get_log("browser")
    show(browser, site / f"{name}.html")
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in asked if not url.startswith("data:")] == [(site / f"{name}.html").as_uri()]


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
  "th:not([scope]), figure:not(:has(figcaption)), svg:not([aria-label]), .scroll:not([aria-label])";
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
    copied = browser.execute_async_script("navigator.clipboard.readText().then(arguments[0], arguments[0])")
    assert copied == command.get_attribute("textContent")
