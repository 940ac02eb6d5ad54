"""The wheel holds what the checkout holds, and nothing called `kernels` lands beside other packages."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("suite", "kernels", "workloads", "reports")
SHIPPED = {".py", ".cpp", ".cu", ".cuh", ".h", ".html", ".css", ".js", ".csv", ".safetensors"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of the checkout, so that nothing is left behind in it."""
    copy = tmp_path_factory.mktemp("checkout of a stranger")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "sparsemark.py", *FOLDERS):
        subprocess.run(("cp", "-r", str(ROOT / name), str(copy)), check=True)
    out = tmp_path_factory.mktemp("wheel")
    words = (
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(out),
        str(copy),
    )
    done = subprocess.run(words, capture_output=True, text=True)
    if "No module named 'setuptools'" in done.stderr:
        pytest.skip("setuptools is not installed here, and building must not fetch it")
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl"))


def test_the_wheel_holds_the_files_of_the_checkout(wheel):
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {"sparsemark.py"}
    for folder in FOLDERS:
        place = "suite" if folder == "suite" else f"suite/{folder}"
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in SHIPPED and "__pycache__" not in file.parts:
                expected.add(f"{place}/{file.relative_to(ROOT / folder)}")
    assert inside == expected


def test_an_installed_wheel_lists_and_checks_outside_the_checkout(wheel, tmp_path):
    site = tmp_path / "site"
    subprocess.run(
        (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel)),
        check=True,
    )
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "from suite.cli import main; import suite; print(suite.__file__); main()"
    )
    for words in (("list", "--json"), ("check", "spmm_csr_scipy")):
        done = subprocess.run(
            (sys.executable, "-P", "-c", code, *words),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        assert str(site) in done.stdout.splitlines()[0]


def test_a_new_folder_is_found_without_a_new_install(tmp_path):
    """Discovery looks at the disk; run in a copy, for the checkout is not ours to litter."""
    copy = tmp_path / "a b"
    copy.mkdir()
    for name in FOLDERS:
        subprocess.run(("cp", "-r", str(ROOT / name), str(copy)), check=True)
    new = copy / "kernels" / "brand" / "new" / "spmm_brand_new.py"
    new.parent.mkdir(parents=True)
    new.write_text(
        'from suite.kernel import kernel\n\n\n@kernel(op="spmm")\ndef spmm_brand_new(a, b):\n    """New."""\n'
    )
    code = (
        "import sys, importlib.machinery as m\n"
        f"root = {str(copy)!r}\n"
        "sys.path.insert(0, root)\n"
        "import suite\n"
        "suite.__path__.append(root)\n"
        "from suite.registry import discover\n"
        "from suite.kernel import KERNELS\n"
        "discover(folders=('kernels',))\n"
        "assert 'spmm_brand_new' in KERNELS\n"
    )
    done = subprocess.run((sys.executable, "-P", "-c", code), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
