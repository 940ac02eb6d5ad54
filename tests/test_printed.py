"""Printed figures: as wide as asked, letters embedded, ink black, and the numbers they draw beside them."""

import re
import struct
import zlib

import pandas as pd
import pytest
from lines import header, score, write
from msgspec.structs import replace

from suite import report
from suite.cli import main
from suite.reading.figures import INK, WIDTH
from suite.reading.printed import FORMATS, Prints

METHODS = [f"method_{letter}" for letter in "abcdefghij"]  # more than a figure can tell apart


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Ten methods at three sparsities and three seeds, and models that cost as much."""
    about = {"task": "digits_mlp", "dense_value": 0.9, "execution": "simulated", "infer_flops": 1e5}
    lines = [
        replace(
            score(),
            **about,
            method=method,
            pattern=f"unstructured@{at:g}",
            sparsity=at,
            seed=seed,
            value=0.9 - 0.02 * number * at - 0.001 * seed,
        )
        for number, method in enumerate(METHODS)
        for at in (0.5, 0.8, 0.9)
        for seed in range(3)
    ]
    file = tmp_path_factory.mktemp("study") / "study.jsonl"
    return write(file, header(options={"study": []}), *lines)


@pytest.fixture(scope="module")
def printed(study, tmp_path_factory):
    """Its pages, and its figures in every format."""
    folder = tmp_path_factory.mktemp("printed")
    report.write([study], folder / "plain")
    for format in FORMATS:
        report.write([study], folder / "site", prints=Prints(folder / format, format, 3.3))
    return folder


def test_every_figure_of_the_pages_is_a_file_with_its_data(printed):
    drawn = {
        (file.stem, name)
        for file in (printed / "plain").glob("*.html")
        for name in re.findall(
            r'<svg viewBox="[^"]*" role="img".*?id="([\w-]+)-figure_1"', file.read_text(), re.DOTALL
        )
    }
    assert drawn
    for format in FORMATS:
        files = {file.name for file in (printed / format).iterdir()}
        assert files == {f"{page}-{name}.{end}" for page, name in drawn for end in (format, "csv", "tex")}


def test_pages_are_the_same_with_and_without(printed):
    plain = {file.name: file.read_text() for file in (printed / "plain").iterdir()}
    assert plain == {file.name: file.read_text() for file in (printed / "site").iterdir()}


def test_a_pdf_has_its_letters_with_it(printed):
    for file in (printed / "pdf").glob("*.pdf"):
        held = file.read_bytes()
        assert b"/FontFile2" in held and b"/CIDFontType2" in held, "TrueType, embedded"
        assert b"/Type3" not in held
        across, up = map(float, re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", held)[0])
        assert across == pytest.approx(3.3 * 72) and up < across
        assert b"CreationDate" not in held


def test_a_pdf_is_scaled_as_a_whole(printed):
    """What lies beyond the narrower page before it is scaled is drawn all the same."""
    for file in (printed / "pdf").glob("*.pdf"):
        parts = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", file.read_bytes(), re.DOTALL)
        (page,) = [text for part in parts if b" cm\n" in (text := inflated(part))]
        assert b"0.7333333333 0 0 0.7333333333 0 0 cm" in page
        drawn = [float(x) for x in re.findall(rb"^([\d.]+) [\d.]+ [ml]$", page, re.MULTILINE)]
        assert 300 < max(drawn) <= 72 * WIDTH


def inflated(part):
    """A stream of a PDF; nothing of one that is not compressed, or no page."""
    try:
        return zlib.decompress(part)
    except zlib.error:
        return b""


def test_an_svg_needs_no_font_and_is_black(printed):
    for file in (printed / "svg").glob("*.svg"):
        held = file.read_text()
        assert 'width="237.6pt"' in held and f'viewBox="0 0 {72 * WIDTH:g} ' in held
        assert "<text" not in held and INK not in held


def test_a_png_says_how_wide_it_is(printed):
    for file in (printed / "png").glob("*.png"):
        held = file.read_bytes()
        at = held.index(b"pHYs") + 4
        (pixels,), (per_metre,) = struct.unpack(">I", held[16:20]), struct.unpack(">I", held[at : at + 4])
        assert pixels / per_metre / 0.0254 == pytest.approx(3.3, rel=1e-3)


def test_the_table_holds_what_was_drawn(printed):
    """Every method, the faint ones too, and sparsity where the axis has density."""
    table = pd.read_csv(printed / "pdf" / "accuracy-digits_mlp-none-0.csv")
    assert list(table) == ["series", "sparsity", "accuracy", "low", "high", "point"]
    assert set(table["series"]) == {"dense", *METHODS}
    mine = table[table["series"] == "method_j"].set_index("sparsity")
    assert list(mine.index) == [0.5, 0.8, 0.9]
    assert mine.loc[0.8, "accuracy"] == pytest.approx(0.9 - 0.18 * 0.8 - 0.001)
    assert mine.loc[0.8, "low"] == pytest.approx(0.9 - 0.18 * 0.8 - 0.001 - 4.303 * 0.001 / 3**0.5, rel=1e-4)
    level = table[table["series"] == "dense"].iloc[0]
    assert level["accuracy"] == 0.9 and pd.isna(level["sparsity"])


def test_the_latex_is_booktabs_and_escaped(printed):
    text = (printed / "pdf" / "accuracy-digits_mlp-none-0.tex").read_text()
    assert text.startswith("% ") and text.count("\n\\toprule") == text.count("\n\\bottomrule") == 1
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len({line.count("&") for line in rows}) == 1 and len(rows) == 2 + 3 * len(METHODS)
    assert r"method\_a & 0.5" in text and not re.search(r"(?<!\\)_", text.partition("\n")[2])


@pytest.mark.parametrize(
    "wrong", [("--width", "0"), ("--width", "wide"), ("--width", "nan"), ("--format", "gif")]
)
def test_what_cannot_be_printed_is_said(wrong, study, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["report", str(study), *wrong])
    assert ended.value.code == 2 and wrong[1] in capsys.readouterr().err


def test_without_a_folder_there_are_no_figures(study, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["report", str(study), "--width", "3.3"])
    assert ended.value.code == 2 and "--figures" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["report", str(study), "--figures", "figures", "--width", "3.3", "--format", "svg"])
    assert ended.value.code == 0
    assert {file.suffix for file in (tmp_path / "figures").iterdir()} == {".svg", ".csv", ".tex"}
