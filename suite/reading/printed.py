"""Printed: a page's figures as files for a paper, each with its data as a table beside it.

NAME.pdf   or .svg, .png: as wide as asked, everything in it scaled alike, letters embedded, ink black
NAME.csv   what is drawn: a row for each marker, with its interval, and what the page says of it where no
           line tells what it is
NAME.tex   the same as a tabular of the package booktabs
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.artist import getp, setp
from matplotlib.axes import Axes
from matplotlib.colors import same_color, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

from suite.reading.figures import BANDS, HOVER, INK, SPARSITY, WIDTH

FORMATS = ("pdf", "svg", "png")
DOTS = 300  # of a png, to an inch
DIGITS = 4
POINT = "point"

COLOURED: dict[Any, tuple[str, ...]] = {
    Text: ("color",),
    Line2D: ("color", "markeredgecolor", "markerfacecolor"),
    Patch: ("edgecolor", "facecolor"),
}

LETTERS: dict[Any, Any] = {  # fonts go along in a PDF; in an SVG letters are outlines
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "sparsemark",
}


@dataclass(frozen=True)
class Prints:
    """A folder for figures, and how they are wanted: a format, and inches across."""

    folder: Path
    format: str = FORMATS[0]
    width: float = WIDTH

    def save(self, figure: Figure, name: str, says: str) -> None:
        """Write a figure and its data. It is black from here on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        blacken(figure)
        file = self.folder / f"{name}.{self.format}"
        with mpl.rc_context(LETTERS):
            {"pdf": pdf, "svg": svg, "png": png}[self.format](figure, file, self.width / WIDTH)
        table = data(figure)
        table.to_csv(self.folder / f"{name}.csv", index=False)
        (self.folder / f"{name}.tex").write_text(tabular(figure, table, says), encoding="utf-8")


def data(figure: Figure) -> pd.DataFrame:
    """What a figure draws: series, where along the axis, the value, its interval, and what the page says."""
    rows = [row for axes in figure.axes for line in axes.lines for row in drawn(axes, line)]
    across, up = figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()
    return pd.DataFrame(rows, columns=["series", across, up, "low", "high", POINT])


def drawn(axes: Axes, line: Line2D) -> Iterator[tuple[str, float, float, float, float, str]]:
    """A line's markers. One without a name is there for the eye; a level has no place along the axis."""
    name = str(line.get_label())
    if re.fullmatch(r"_child\d+", name):  # matplotlib's own for what nobody named
        return
    across: Any = line.get_xdata()
    up: Any = line.get_ydata()
    if line.get_transform() != axes.transData:
        across, up = [nan], up[:1]
    elif axes.get_xlabel() == SPARSITY:
        across = [round(1 - density, 9) for density in across]
    low, high = BANDS.get(line, ([nan] * len(up),) * 2)
    points = HOVER.get(line, [""] * len(up))
    for where, value, least, most, point in zip(across, up, low, high, points, strict=True):
        yield name.removeprefix("_"), float(where), float(value), float(least), float(most), point


def tabular(figure: Figure, table: pd.DataFrame, says: str) -> str:
    """A table as LaTeX, to be put in with \\input. Points that no line joins are told in words, too."""
    joined = all(line.get_linestyle() != "None" for axes in figure.axes for line in axes.lines)
    kept = (table.drop(columns=POINT) if joined else table).dropna(axis="columns", how="all")
    made = kept.to_latex(
        index=False, escape=True, na_rep="", float_format=lambda value: f"{value:.{DIGITS}g}"
    )
    return f"% {says}\n{made}"


def blacken(figure: Figure) -> None:
    """Black where a page has the colour of its text."""
    for kind, names in COLOURED.items():
        for one in figure.findobj(kind):
            for name in names:
                if same_color(to_rgb(getp(one, name)), INK):
                    setp(one, name, "black")


def pdf(figure: Figure, file: Path, scale: float) -> None:
    """One page. Its contents are scaled as a whole, which `savefig` does not do."""
    from matplotlib.backends.backend_pdf import Op, PdfFile, RendererPdf  # its fonts take a while to import

    width, height = figure.get_size_inches()
    figure.dpi = 72  # a PDF's points
    page = PdfFile(file, {"CreationDate": None})
    try:
        page.newPage(scale * width, scale * height)
        page.width, page.height = width, height  # beyond which nothing is drawn
        page.output(scale, 0, 0, scale, 0, 0, Op.concat_matrix)
        renderer = RendererPdf(page, DOTS, height, width)
        figure.draw(renderer)
        renderer.finalize()
        page.finalize()
    finally:
        page.close()


def svg(figure: Figure, file: Path, scale: float) -> None:
    """A drawing without a date, so that the same figure is the same file."""
    figure.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
    text = file.read_text(encoding="utf-8")
    sizes = re.compile(r'\b(width|height)="([\d.]+)pt"')
    scaled = sizes.sub(lambda size: f'{size[1]}="{scale * float(size[2]):.6g}pt"', text, count=2)
    file.write_text(scaled, encoding="utf-8")


def png(figure: Figure, file: Path, scale: float) -> None:
    """Dots on white, which know how wide they are meant to be."""
    resolution = {"dpi": (DOTS, DOTS)}
    figure.savefig(file, format="png", dpi=DOTS * scale, facecolor="white", pil_kwargs=resolution)
