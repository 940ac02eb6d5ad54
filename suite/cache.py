"""Cache: where this user's compiled libraries and measured ceilings are kept between runs."""

import os
import tempfile
from pathlib import Path


def folder(name: str) -> Path:
    """$SPARSEMARK_CACHE/<name>, else in the user's cache folder. It may not exist yet."""
    own = os.environ.get("SPARSEMARK_CACHE")
    users = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return (Path(own) if own else Path(users, "sparsemark")) / name


def keep(file: Path, content: bytes) -> None:
    """Write a file of which others see all or nothing, and of two writers the later one's."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".new", delete=False) as new:
        new.write(content)
    os.replace(new.name, file)
