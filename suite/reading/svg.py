"""SVG: a Figure as a piece of a page: its letters text, its colours the page's, the same each time."""

import io
import re
from collections.abc import Sequence
from html import escape

import matplotlib as mpl
from matplotlib.figure import Figure

from suite.reading.figures import HOVER, INK, SERIES


def svg(figure: Figure, name: str, says: str) -> str:
    """An inline <svg> whose ids begin with `name` (unique on its page) and whose label is `says`."""
    written = io.StringIO()
    lines = [line for axes in figure.axes for line in axes.lines if line in HOVER]
    for number, line in enumerate(lines):
        line.set_gid(f"hover{number}")
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "sparsemark"}):
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = written.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for number, line in enumerate(lines):
        text = pointed(text, f"hover{number}", HOVER[line])
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    for number, colour in enumerate(SERIES, 1):
        text = text.replace(colour, f"var(--series-{number}, {colour})")
    text = text.replace(INK, "currentColor")
    view = re.search(r'viewBox="[^"]*"', text)
    head = f'<svg {view[0] if view else ""} role="img" aria-label="{escape(says)}">'
    return re.sub(r"<svg[^>]*>", lambda _: head, text, count=1)


def pointed(text: str, id: str, says: Sequence[str]) -> str:
    """A line's markers with what they say, which a browser shows where one points."""
    begins = text.index(f'<g id="{id}">')
    markers = list(re.finditer(r"<use [^>]*/>", text[begins : text.index("</g>", begins)]))
    if len(markers) != len(says):  # some lie outside and are not drawn
        return text
    for marker, words in reversed(list(zip(markers, says, strict=True))):
        end = begins + marker.end()
        text = f"{text[: end - 2]}><title>{escape(words)}</title></use>{text[end:]}"
    return text
