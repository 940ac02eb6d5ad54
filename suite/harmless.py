"""Harmless: the types of what a line of a results file may hold, whoever wrote it.

A results file may come from a stranger, and what is in it becomes pages, file names and commands to copy. So
names are words, sentences are short and of characters that can be seen, numbers can be reckoned with, and a
header is shallow. A line that is otherwise is named and left out whole: half of it would be another
measurement.
"""

import math
import re
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta

LONGEST_LINE = 1 << 20  # bytes; the longest of our own has some ten thousand
LONGEST_SENTENCE = 2000  # characters
MOST_PARTS = 2000  # of a list or an object in a header
DEEPEST = 6  # objects within each other in a header

# Control characters, those that turn the direction of text, those that nobody sees, and lone surrogates.
_UNSEEN = (
    r"\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    r"\U000e0000-\U000e007f"
)
UNSEEN = re.compile(f"[{_UNSEEN}]")

_NO_SCHEME = r"(?!(?i:javascript|vbscript|data):)"

Word = Annotated[str, Meta(max_length=100, pattern=r"^\w[\w.-]*\Z")]
"""The name of a device, a workload, a kernel: also a part of a file's name."""

Phrase = Annotated[str, Meta(max_length=200, pattern=rf"^{_NO_SCHEME}\w[\w .,:;=+@%~()×/*|-]*\Z")]
"""The name of a pattern or a regime: "block16x32@0.9", "2:4", "small batch"."""

Version = Annotated[str, Meta(max_length=100, pattern=r"^\w[\w.+!-]*\Z")]

Id = Annotated[
    str, Meta(max_length=500, pattern=r"^\w+/[\w=,]+/(?!\.)[^/<>]+/\w+/seed=\d+(/data=[^/<>]+)?\Z")
]
"""A case's."""

Data = Annotated[str, Meta(max_length=300, pattern=rf"^{_NO_SCHEME}(?!\.\.)[\w.,:+%~-]*\Z")]
"""The id of a file's matrix: "ca-CondMat.mtx-1f3a9c02"."""

Sentence = Annotated[str, Meta(max_length=LONGEST_SENTENCE, pattern=rf"^[^{_UNSEEN}]*\Z")]
"""What a reader is told, and no program looks into."""

Moment = Annotated[
    str, Meta(max_length=40, pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?\Z")
]

Count = Annotated[int, Meta(ge=0, le=2**62)]
Small = Annotated[int, Meta(ge=0, le=10**6)]
Calls = Annotated[int, Meta(ge=0, le=10**8)]  # more is no measurement: a day of calls of a millisecond
Size = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Number = Annotated[float, Meta(ge=-1e24, le=1e24)]
Rate = Annotated[float, Meta(gt=0, le=1e24)]
"""Per second. Times are divided by it."""

SHORTEST, LONGEST = 1e-10, 1e7  # seconds of a call


class Cache(msgspec.Struct):
    """A level of a fingerprint's caches."""

    bytes: Size
    shared_by: Size | None = None


class Fingerprint(msgspec.Struct):
    """What readers take out of a device's fingerprint; there is more in it."""

    kind: Phrase = ""
    name: Sentence = ""
    caches: dict[Word, Cache] = {}
    fingerprint: dict[str, Any] = {}


class Plugin(msgspec.Struct):
    """What a command to copy takes from a plug-in's entry."""

    file: Annotated[str, Meta(max_length=200, pattern=r"^\w[\w. +-]*\.py\Z")] = ""


def shown(text: str, most: int = 300) -> str:
    """A stranger's text fit to be printed: short, and of characters that can be seen."""
    return UNSEEN.sub("\N{REPLACEMENT CHARACTER}", text[:most]) + ("…" if len(text) > most else "")


def sentence(text: str) -> str:
    """A text of ours as a line may hold it: without line breaks, and no longer than is read."""
    kept = UNSEEN.sub(" ", text[:LONGEST_SENTENCE])
    return kept if len(text) <= LONGEST_SENTENCE else f"{kept[:-1]}…"


def shallow(value: Any, where: str, depth: int = DEEPEST) -> Iterator[str]:
    """What keeps a part of a header, which may be anything, from being few and plain parts."""
    if depth == 0:
        yield f"more than {DEEPEST} objects within each other - at {where}"
    elif isinstance(value, str):
        if len(value) > LONGEST_SENTENCE or UNSEEN.search(value):
            yield f"a text too long, or of characters that cannot be seen - at {where}"
    elif isinstance(value, int | float):
        if not math.isfinite(value) or abs(value) > 2**62:
            yield f"a number that cannot be reckoned with - at {where}"
    elif isinstance(value, dict | list):
        if len(value) > MOST_PARTS:
            yield f"{len(value)} parts, {MOST_PARTS} at most - at {where}"
            return
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for name, part in parts:
            yield from shallow(str(name), where, 1)
            yield from shallow(part, where, depth - 1)


def fits(value: Any, kind: Any, where: str) -> Iterator[str]:
    """Why a part of a header is not what readers take it for."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as wrong:
        yield f"{told(wrong)} in {where}"


def told(wrong: Exception) -> str:
    """What a decoder complains about, fit to be printed; a rule for names in words."""
    says = re.sub(r"matching regex '.*'(?= - at|$)", "that is plain and short", str(wrong), flags=re.DOTALL)
    return shown(says)
