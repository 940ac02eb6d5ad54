"""Header: what the first line of a file to be shared must say, so that others can measure it again."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from suite.cpu.info import Facts
from suite.device import slug
from suite.harmless import Cache, Number, Sentence, Size, Word, fits, shown
from suite.record import Run

CLEAN = re.compile(r"[0-9a-f]{7,40}")
VISITS = 3  # fewer have no interval worth the name


class Cpu(msgspec.Struct, forbid_unknown_fields=True):
    """The fingerprint of a processor, as suite/cpu/device.py takes it."""

    kind: Literal["cpu"]
    name: Sentence
    model: Sentence
    family: Word | None
    cores: Size
    isa: list[Word]
    caches: dict[Word, Cache]
    memory_gib: Size
    quota: Number | None
    hypervisor: bool | None
    system: Sentence

    @property
    def key(self) -> str:
        """The folder of its results."""
        return Facts(self.model, None, self.family, frozenset(), self.cores, None, {}).key


class Gpu(msgspec.Struct, forbid_unknown_fields=True):
    """The fingerprint of a GPU, as suite/cuda/device.py takes it."""

    kind: Literal["cuda"]
    name: Sentence
    architecture: Annotated[str, Meta(pattern=r"^sm_\d+\Z")]
    multiprocessors: Size
    caches: dict[Word, Cache]
    memory_gib: Size
    clock_mhz: Number | None
    power_limit_watts: Number | None
    ecc: bool | None
    mig: bool | None
    persistence: bool | None
    driver: Sentence
    cuda: Sentence | None

    @property
    def key(self) -> str:
        """The folder of its results."""
        return slug(self.name)


KINDS: dict[Any, type[Cpu] | type[Gpu]] = {"cpu": Cpu, "cuda": Gpu}


def faults(run: Run, now: datetime | None = None) -> Iterator[str]:
    """What is missing."""
    if run.commit is None:
        yield "no commit: measure from a checkout, so that others can get the same code"
    elif not CLEAN.fullmatch(run.commit):
        yield f"commit {run.commit} is of a changed tree: commit the changes or drop them, and measure again"
    if latest(now) < run.started:
        yield f"started {run.started}, which is still to come"
    for name in ("python", "torch"):
        if name not in run.libraries:
            yield f"the version of {name} is not stated"
    visits = run.options.get("visits")
    if "study" not in run.options and (not isinstance(visits, int) or visits < VISITS):
        yield f"{visits or 'no'} visits planned: fewer than {VISITS} have no interval worth the name"
    if len(run.devices) != 1:
        yield f"{len(run.devices)} devices; a file to be shared is of one"
    for key, about in run.devices.items():
        yield from of_device(key, about)
    for plugin in run.plugins:
        yield from of_plugin(plugin)


def latest(now: datetime | None) -> str:
    """A moment before which everything has been measured: clocks differ."""
    return ((now or datetime.now(UTC)) + timedelta(days=1)).isoformat(timespec="seconds")


def of_device(key: str, about: Mapping[str, Any]) -> Iterator[str]:
    """A fingerprint is of a known shape, and the key that of its name."""
    kind = about.get("kind")
    shape = KINDS.get(kind) if isinstance(kind, str) else None
    if shape is None:
        yield f"device {key} is of no known kind; there are {', '.join(KINDS)}"
        return
    if wrong := list(fits(dict(about), shape, f"the fingerprint of {key}")):
        yield from wrong
        return
    made = msgspec.convert(dict(about), shape)
    if made.key != key:
        yield f"device {key} does not fit its name {made.name}: results of that are in {made.key}"


def of_plugin(plugin: Mapping[str, Any]) -> Iterator[str]:
    """Kernels from outside: under which licence, and how does one get them?"""
    name = shown(str(plugin.get("distribution") or plugin.get("file") or plugin.get("name")), 60)
    how = "state __license__ and __install__ in it" if "file" in plugin else "see to its metadata"
    for what, says in (("license", "licence"), ("install", "one-line install")):
        if not isinstance(plugin.get(what), str) or not plugin[what].strip():
            yield f"plug-in {name} has no {says}: {how}, and measure again"
