"""Reader: one file format, and how a file finds its reader: by its ending."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from os.path import expanduser
from pathlib import Path
from pkgutil import iter_modules

import numpy as np

from suite.registry import Unusable

CHUNK = 2**22  # bytes read at a time


@dataclass(frozen=True)
class Content:
    """What a file holds: entries in any order, rows and columns from 0, int64; values if it has any."""

    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray | None


@dataclass(frozen=True)
class Reader:
    """A format. `shape` reads as little as it can, `read` all; either may raise Unusable.

    part: the format holds many matrices, and `FILE:PART` names one.
    folders: it reads a folder of such files as one of them, and `FOLDER:PART` names a matrix.
    content: the bytes that make this matrix what it is; the whole file unless the format says otherwise.
    """

    endings: tuple[str, ...]
    shape: Callable[["Located"], tuple[int, int]]
    read: Callable[["Located"], Content]
    parts: bool = False
    content: Callable[["Located"], Iterable[bytes]] | None = None
    folders: bool = False


@dataclass(frozen=True)
class Located:
    """A matrix in a file that exists."""

    file: Path
    part: str
    reader: Reader

    @property
    def text(self) -> str:
        """As a user names it."""
        return f"{self.file}:{self.part}" if self.part else str(self.file)

    def fingerprint(self) -> str:
        """The first 8 digits of the content's hash."""
        made = hashlib.sha256()
        for chunk in (self.reader.content or whole)(self):
            made.update(chunk)
        return made.hexdigest()[:8]


def whole(where: Located) -> Iterable[bytes]:
    """All of a file, a piece at a time."""
    with where.file.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


@cache
def readers() -> dict[str, Reader]:
    """Every format of this folder, by ending."""
    folder = __package__ or "suite.sources"
    found: dict[str, Reader] = {}
    for file in iter_modules(import_module(folder).__path__):
        reader = getattr(import_module(f"{folder}.{file.name}"), "READER", None)
        if reader:
            found |= dict.fromkeys(reader.endings, reader)
    return found


def locate(text: str) -> Located:
    """The file and the reader of what a user named, or one sentence why there is none."""
    formats = readers()
    path, part = text, ""
    for ending, reader in formats.items():
        at = text.lower().rfind(f"{ending}:")
        if reader.parts and at >= 0:
            path, part = text[: at + len(ending)], text[at + len(ending) + 1 :]
    file = Path(expanduser(path)).absolute()  # Path's own would expand ./~ as well, and raise
    if file.is_dir():
        raise Unusable(f"{text} is a directory. Name a file in it.")
    above, colon, part_of = text.rpartition(":")
    if colon and not part and (folder := Path(expanduser(above)).absolute()).is_dir():
        return Located(folder, part_of, next(one for one in formats.values() if one.folders))
    ending = next((ending for ending in formats if file.name.lower().endswith(ending)), None)
    if ending is None:
        raise Unusable(f"{text} is not of a known format. Known endings: {', '.join(sorted(formats))}.")
    try:
        with file.open("rb") as opened:
            if not opened.read(1):
                raise Unusable(f"{text} is empty: 0 bytes. Copy or download it again.")
    except FileNotFoundError:
        raise Unusable(f"there is no file {text}. Check the path.") from None
    except OSError as failed:
        raise Unusable(f"{text} cannot be read: {failed.strerror}. Check its permissions.") from None
    return Located(file, part, formats[ending])
