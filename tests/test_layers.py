"""The layers: content imports the instrument, the instrument imports no content, content no other content."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CONTENT = ("kernels", "workloads", "reports")


def imports(file: Path) -> set[str]:
    """Every module a file names in an import."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def content_named(file: Path) -> set[str]:
    return {name for name in imports(file) for folder in CONTENT if f"{name}.".startswith(f"suite.{folder}.")}


@pytest.mark.parametrize("file", sorted((ROOT / "suite").rglob("*.py")), ids=lambda file: file.stem)
def test_the_instrument_names_no_content(file):
    assert not content_named(file)


@pytest.mark.parametrize("folder", CONTENT)
def test_content_names_only_its_own_folder(folder):
    for file in (ROOT / folder).rglob("*.py"):
        assert {name.split(".")[1] for name in content_named(file)} <= {folder}, file


def test_every_module_says_what_it_is():
    for folder in ("suite", *CONTENT):
        for file in (ROOT / folder).rglob("*.py"):
            assert ast.get_docstring(ast.parse(file.read_text())), f"{file} has no docstring"
