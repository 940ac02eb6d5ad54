"""Registry: every kernel, workload and report there is, found by looking into their folders.

Adding one is adding a file. `discover` imports the content folders, then the entry points
`sparsemark.plugins` of other distributions, then the files named by `--plugin`.
"""

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import Distribution, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, TypeVar

CONTENT = ("kernels", "workloads", "reports")
OPTIONAL = {"cupy", "cupyx", "numba", "triton", "ray", "sparse_dot_mkl", "sklearn", "transformers"}
MISSING: dict[str, str] = {}  # what a content file would have registered -> the library it lacks
PLUGINS: list[dict[str, Any]] = []  # what was loaded from outside, for the header of a run

T = TypeVar("T")


class Unusable(Exception):
    """A mistake of the user's: shown as one sentence, never as a traceback. Exit status 2."""


def modules(folder: str) -> Iterator[str]:
    """Import names of the Python files of a content folder, new sub-folders included."""
    package = import_module(f"suite.{folder}")
    root = Path(next(iter(package.__path__)))
    for file in sorted(root.rglob("*.py")):
        if file.name != "__init__.py" and "__pycache__" not in file.parts:
            yield ".".join((package.__name__, *file.relative_to(root).with_suffix("").parts))


def load(name: str) -> None:
    """Import one content module; one that wants an absent optional library is noted and passed over."""
    try:
        import_module(name)
    except ModuleNotFoundError as absent:
        library = (absent.name or "").partition(".")[0]
        if library not in OPTIONAL:
            raise
        MISSING[name.rpartition(".")[2]] = library


def load_plugin(file: Path) -> None:
    """Run a user's Python file, whose decorators register what it holds. Once per process."""
    file = file.resolve()
    name = f"sparsemark_plugin_{file.stem}_{hashlib.sha1(bytes(file)).hexdigest()[:8]}"
    if name in sys.modules:
        return
    spec = spec_from_file_location(name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise Unusable(f"--plugin {file}: not a Python file. Name an existing file that ends in .py.")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as failed:
        del sys.modules[name]
        raise Unusable(f"--plugin {file}: {type(failed).__name__}: {failed}. Mend the file.") from failed
    stated = {name: getattr(module, f"__{name}__", None) for name in ("license", "install")}
    PLUGINS.append(
        {"file": file.name, "hash": hashlib.sha256(file.read_bytes()).hexdigest()[:16]}
        | {name: text for name, text in stated.items() if isinstance(text, str)}
    )


def load_entry_points() -> None:
    """Import what other installed distributions offer as `sparsemark.plugins`."""
    for entry in entry_points(group="sparsemark.plugins"):
        try:
            entry.load()
        except Exception as failed:
            raise Unusable(
                f"plug-in {entry.name!r} ({entry.value}) does not load: {type(failed).__name__}: {failed}. "
                "Mend or uninstall its distribution."
            ) from failed
        PLUGINS.append(origin(entry.name, entry.dist))


def origin(name: str, distribution: Distribution | None) -> dict[str, Any]:
    """Where a plug-in comes from, as the header of a run states it, and how one gets it."""
    if distribution is None:
        return {"name": name}
    about = distribution.metadata.json
    license = about.get("license_expression") or about.get("license") or licence_among(about)
    known = {"name": name, "distribution": distribution.name, "version": distribution.version}
    return known | {"license": license} | source(distribution)


def licence_among(about: Mapping[str, Any]) -> str | None:
    """What a distribution's classifiers call its licence."""
    found = [one.rpartition(" :: ")[2] for one in about.get("classifier", ()) if one.startswith("License ::")]
    return " or ".join(found) or None


def source(distribution: Distribution) -> dict[str, str | None]:
    """The command that installs the same again, from the index or a repository; none for a folder."""
    direct = json.loads(distribution.read_text("direct_url.json") or "null")
    if direct is None:
        return {"install": f"pip install {distribution.name}=={distribution.version}"}
    if commit := direct.get("vcs_info", {}).get("commit_id"):
        return {"commit": commit, "install": f"pip install git+{direct['url']}@{commit}"}
    return {"install": None if direct["url"].startswith("file:") else f"pip install {direct['url']}"}


_discovered: set[str] = set()


def discover(plugins: Iterable[Path] = (), folders: Iterable[str] = CONTENT) -> None:
    """Import all content. Calling it again adds only what is new."""
    for folder in folders:
        if folder in _discovered:
            continue
        try:
            names = list(modules(folder))
        except ModuleNotFoundError:
            raise Unusable("sparsemark is not installed; run `pip install -e .` in its checkout.") from None
        for name in names:
            load(name)
        _discovered.add(folder)
    if "entry points" not in _discovered:
        _discovered.add("entry points")
        load_entry_points()
    for file in plugins:
        load_plugin(file)


def nearest(name: str, among: Iterable[str]) -> str | None:
    """The one of these that was probably meant."""
    return next(iter(get_close_matches(name, list(among), n=1)), None)


def pick(kind: str, name: str, among: Mapping[str, T]) -> T:
    """The one of that name, or an end that says what there is instead."""
    if name in among:
        return among[name]
    if name in MISSING:
        raise Unusable(f"{kind} {name!r} needs {MISSING[name]}, which is not installed here.")
    near = nearest(name, among)
    hint = f" Did you mean {near!r}?" if near else ""
    raise Unusable(f"no {kind} {name!r}.{hint} There are: {', '.join(sorted(among)) or 'none'}.")
