"""Provenance: which sparsemark, libraries and plug-ins made a file."""

import hashlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = (
    "torch",
    "numpy",
    "scipy",
    "scikit-learn",
    "numba",
    "triton",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "sparse-dot-mkl",
    "transformers",
)

MEASURES = ("suite", "kernels", "workloads", "pyproject.toml")  # a change in a report is no other measurement


def libraries() -> dict[str, str]:
    """Versions of what kernels stand on, and of Python."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The checkout's commit; None outside a checkout.

    Where files that measure differ from it, `+` and a hash of how: two changed trees are not the same.
    """
    root = Path(__file__).parent.parent
    if not (root / "pyproject.toml").is_file():
        return None
    head = git(root, "rev-parse", "--short=12", "HEAD")
    if head is None:
        return None
    if not git(root, "status", "--porcelain", "--", *MEASURES):
        return head
    changes = hashlib.sha256((git(root, "diff", "HEAD", "--", *MEASURES) or "").encode())
    for name in (git(root, "ls-files", "--others", "--exclude-standard", "--", *MEASURES) or "").splitlines():
        changes.update((root / name).read_bytes())
    return f"{head}+{changes.hexdigest()[:8]}"


def git(root: Path, *words: str) -> str | None:
    """What a git command prints, None where it fails."""
    try:
        done = subprocess.run(("git", *words), cwd=root, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
