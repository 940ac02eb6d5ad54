"""Cache: where this user's compiled libraries and measured ceilings are kept between runs."""

import os
from pathlib import Path


def folder(name: str) -> Path:
    """$SPARSEMARK_CACHE/<name>, else in the user's cache folder. It may not exist yet."""
    own = os.environ.get("SPARSEMARK_CACHE")
    users = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return (Path(own) if own else Path(users, "sparsemark")) / name
