"""Scrub: what in a results file tells who measured and where, taken out of it, and said.

Names and numbers are left as they are: only texts that somebody's tools wrote (notes, options, what a plug-in
or a system calls itself) hold such things.
"""

import getpass
import re
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from suite.record import SENTENCES, decode, lines

COMMON = {"root", "user", "home", "admin", "ubuntu", "debian", "runner", "localhost", "localdomain", "torch"}
TEXTS = {*SENTENCES, "devices", "plugins", "options"}  # the fields that tools wrote

NAME = r"[^\s/\\'\"`:;,()<>\[\]]+"
START = r"(?<![\w/.:@\]])"

# In this order. A path keeps its last name: it may be what a note is about. /proc and /sys are nobody's.
KINDS = {
    "e-mail address": re.compile(r"(?!git@)[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}"),
    "home folder": re.compile(
        rf"{START}(?:/(?:home|Users)/{NAME}|[A-Za-z]:\\Users\\{NAME}|/root\b|~[a-z_]*(?=/))"
        rf"(?:[/\\]{NAME}(?=[/\\]))*"
    ),
    "path": re.compile(rf"{START}(?:/(?!proc/|sys/|dev/){NAME}|[A-Za-z]:)[/\\](?:{NAME}[/\\])*"),
    "serial number": re.compile(
        r"\b(?:GPU-|MIG-)?[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"
        r"|\b[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}\b"
        r"|(?i:\bserial(?: number| no\.?)?[ :=#]+)[\w-]*\d[\w-]*"
    ),
}


@dataclass(frozen=True)
class Removed:
    """What was taken out of a line."""

    line: int
    kind: str


def names_here() -> dict[str, set[str]]:
    """What this user and this machine are called, where that tells one from others."""
    host = socket.gethostname()
    found = {"user name": {user(), Path.home().name}, "host name": {host, host.partition(".")[0]}}
    return {kind: {name for name in names if len(name) > 2} - COMMON for kind, names in found.items()}


def user() -> str:
    """The user's name; nothing where the system has none for him."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def scrubbed(file: Path, names: Mapping[str, Collection[str]]) -> tuple[bytes, list[Removed]]:
    """The whole lines of a results file without what tells who and where; those that do not, as they are."""
    kinds = KINDS | {
        kind: re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, sorted(some)))})(?![\w-])")
        for kind, some in names.items()
        if some
    }
    kept, removed = [], []
    for number, text, whole in lines(file):
        if not whole:
            continue  # torn: nothing of it counts
        try:
            decode(text)  # what is no line stays, to be named as a fault
            told: dict[str, Any] = msgspec.json.decode(text)
        except ValueError:
            kept.append(text)
            continue
        found: list[str] = []
        clean = {
            name: without(value, kinds, found) if name in TEXTS else value for name, value in told.items()
        }
        kept.append(msgspec.json.encode(clean) + b"\n" if found else text)
        removed += [Removed(number, kind) for kind in found]
    return b"".join(kept), removed


def without(value: Any, kinds: Mapping[str, re.Pattern[str]], found: list[str]) -> Any:
    """A value with these kinds of things left out of its texts, and each noted."""
    if isinstance(value, dict):
        return {name: without(part, kinds, found) for name, part in value.items()}
    if isinstance(value, list):
        return [without(part, kinds, found) for part in value]
    if not isinstance(value, str):
        return value
    for kind, form in kinds.items():
        value, times = form.subn("[path]/" if kind == "path" else f"[{kind}]", value)
        found += [kind] * times
    return value
