"""About: what a line is about, whatever came of it: its case in columns, and the command that repeats it."""

import re
import shlex
from collections.abc import Mapping
from datetime import date, timedelta
from functools import cache
from typing import Any

from suite.case import TOKENLESS, is_layer, regime_of
from suite.inputs import is_recording
from suite.pattern import Pattern, parse
from suite.record import Result, Run
from suite.registry import Unusable
from suite.sources import argument

YEAR = timedelta(days=365)

NOTEBOOK = "notebook"  # the workload of lines from a notebook, which no command can name

AS_RECORDED = """
device workload op case data pattern dtype seed kernel kernel_hash cache threads dense execution scope
selector algorithm structure
"""


def identity(line: Result) -> dict[str, Any]:
    """What a line is about."""
    pattern = pattern_of(line.pattern)
    m, k, n = (line.sizes.get(size) for size in "mkn")
    return {name: getattr(line, name) for name in AS_RECORDED.split()} | {
        "kernel": line.entry,
        "m": m,
        "k": k,
        "n": n,
        "sizes": sizes_of(line.sizes),
        "family": pattern.family if pattern else family_of(line.pattern),
        "line": line.pattern.partition("@")[0] if "@" in line.pattern else family_of(line.pattern),
        "sparsity": line.sparsity if line.sparsity is not None else promised(pattern, m, k),
        "regime": line.phase or (regime_of(n) if n else TOKENLESS),
    }


def is_old(started: str, today: date | None = None) -> bool:
    """Whether what began then began more than a year ago."""
    return started[:10] < ((today or date.today()) - YEAR).isoformat()


def sizes_of(sizes: Mapping[str, int]) -> str:
    """Sizes as a reader says them: 4096 × 1024, n 64."""
    if list(sizes) == ["m", "k", "n"]:
        return f"{sizes['m']} × {sizes['k']}, n {sizes['n']}"
    return ", ".join(f"{name} {size}" for name, size in sizes.items())


@cache
def pattern_of(text: str) -> Pattern | None:
    """The pattern that prints so; None for one that came from a plug-in that is not here."""
    try:
        return parse(text)
    except Unusable:
        return None


def promised(pattern: Pattern | None, m: int | None, k: int | None) -> float | None:
    """The sparsity of a line whose operand was never made: its kernel was refused."""
    try:
        return pattern.sparsity_of(m, k) if pattern and m and k else None
    except Unusable:  # known from a file alone
        return None


def family_of(text: str) -> str:
    """What to call a pattern: its class's word, or its spelling with parameters left out."""
    if known := pattern_of(text):
        return known.family
    if re.fullmatch(r"\d+:\d+", text):
        return "N:M"
    return re.match(r"\D*", text.partition("@")[0])[0].strip(" -_") or text  # pyright: ignore


def command(line: Result, run: Run | None) -> str:
    """What to type to measure this again, where its matrix and plug-ins lie."""
    options = run.options if run else {}
    words = ["sparsemark", "run", *([] if line.workload == NOTEBOOK else [line.workload])]
    words += ["--case", line.case, "--kernels", line.entry]
    if line.pattern == "given" or is_layer(line.data):
        words += ["--matrix", argument(line.data)]
    if is_recording(line.data):
        words += [
            word
            for name in ("model", "corpus")
            if options.get(name)
            for word in (f"--{name}", str(options[name]))
        ]
    if options.get("extent", "default") != "default":
        words += ["--extent", str(options["extent"])]
    if line.cache != "cold":
        words += ["--cache", line.cache]
    if "threads" in options:
        words += ["--threads", str(line.threads)]
    if plugins := [str(plugin["file"]) for plugin in (run.plugins if run else ()) if "file" in plugin]:
        words += ["--plugin", *plugins]
    return shlex.join(words)
