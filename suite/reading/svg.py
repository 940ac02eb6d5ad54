"""SVG: a Figure as a piece of a page: its letters text, its colours the page's, the same each time."""

import io
import re
from html import escape

import matplotlib as mpl
from matplotlib.figure import Figure

from suite.reading.figures import INK, SERIES


def svg(figure: Figure, name: str, says: str) -> str:
    """An inline <svg> whose ids begin with `name` (unique on its page) and whose label is `says`."""
    written = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "sparsemark"}):
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = written.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    for number, colour in enumerate(SERIES, 1):
        text = text.replace(colour, f"var(--series-{number}, {colour})")
    text = text.replace(INK, "currentColor")
    view = re.search(r'viewBox="[^"]*"', text)
    head = f'<svg {view[0] if view else ""} role="img" aria-label="{escape(says)}">'
    return re.sub(r"<svg[^>]*>", lambda _: head, text, count=1)
