"""Library: the source of the running Python's standard library, a text that is there wherever this runs.

Modules of one file alone: these are the same in every distribution of one version of Python. A hash of its
name says whether a module is to be learned from or held out, so a module stays on its side from version to
version. The whole text's fingerprint is in each line's `data`; scores on another text are on other curves.
"""

import hashlib
import sys
import sysconfig
from functools import cache
from pathlib import Path

import torch

from suite.kernel import Refused

HELD_OUT = 10  # one module in so many


@cache
def modules():
    """Of each module its source, by name and in this order."""
    folder = Path(sysconfig.get_path("stdlib"))
    files = [folder / f"{name}.py" for name in sorted(sys.stdlib_module_names)]
    found = {one.stem: one.read_bytes().replace(b"\r\n", b"\n") for one in files if one.is_file()}
    if not {held_out(name) for name in found} == {True, False}:
        raise Refused(f"the source of Python's standard library is not in {folder}")
    return found


def held_out(name):
    """Whether a module of this name is not to be learned from."""
    return hashlib.sha256(name.encode()).digest()[0] % HELD_OUT == 0


@cache
def text(learned):
    """The bytes of the modules to learn from, or of those held out, one after the other."""
    parts = [source for name, source in modules().items() if held_out(name) != learned]
    return torch.frombuffer(bytearray(b"".join(parts)), dtype=torch.uint8)


@cache
def fingerprint():
    """Of the whole text."""
    made = hashlib.sha256()
    for name, source in modules().items():
        made.update(name.encode() + b"\0" + source + b"\0")
    return made.hexdigest()[:8]
