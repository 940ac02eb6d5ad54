"""What the CPU is: name, family, features, caches; from /proc and /sys, macOS' sysctl, or little at all."""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from suite.cpu.topology import CPUS, ROOT, cpu_list, number, siblings, text
from suite.device import slug

# A hypervisor's "AMD EPYC" or "Intel Xeon Processor" does not say which; family and model numbers do.
AMD = {
    23: lambda model: "zen2" if model >= 0x30 else "zen",
    25: lambda model: "zen4" if model >> 4 in (0x1, 0x6, 0x7, 0xA) else "zen3",
    26: lambda model: "zen5",
}
INTEL = {
    0x55: "skylake-sp",
    0x6A: "ice-lake-sp",
    0x6C: "ice-lake-sp",
    0x8F: "sapphire-rapids",
    0xCF: "emerald-rapids",
    0xAD: "granite-rapids",
    0xAE: "granite-rapids",
    0x8C: "tiger-lake",
    0x8D: "tiger-lake",
    0x97: "alder-lake",
    0x9A: "alder-lake",
    0xB7: "raptor-lake",
    0xBA: "raptor-lake",
    0xBF: "raptor-lake",
    0xAA: "meteor-lake",
    0xAC: "meteor-lake",
    0xBD: "lunar-lake",
    0xC5: "arrow-lake",
    0xC6: "arrow-lake",
}
ARM = {
    (0x41, 0xD08): "cortex-a72",
    (0x41, 0xD0B): "cortex-a76",
    (0x41, 0xD0C): "neoverse-n1",
    (0x41, 0xD40): "neoverse-v1",
    (0x41, 0xD49): "neoverse-n2",
    (0x41, 0xD4F): "neoverse-v2",
    (0x41, 0xD84): "neoverse-v3",
    (0x41, 0xD8E): "neoverse-n3",
    (0x46, 0x001): "a64fx",
    (0xC0, 0xAC3): "ampere-1",
}
FILLER = r"\((?:r|tm|c)\)|®|™|\bcpu\b|\bprocessor\b|\b\w+-core\b|\b\d+th gen\b|\b(?:with|w/) .*| @.*"

HYPERVISORS = ("kvm", "qemu", "vmware", "virtual", "amazon ec2", "google compute")

APPLE_FEATURES = {
    "FEAT_BF16": ("bf16",),
    "FEAT_I8MM": ("i8mm",),
    "FEAT_DotProd": ("asimddp",),
    "FEAT_FP16": ("fphp", "asimdhp"),
    "FEAT_SME": ("sme",),
}


USUAL = {"L1d": 2**15, "L2": 2**19, "L3": 2**25}  # bytes


@dataclass(frozen=True)
class Cache:
    """One level as some CPUs see it: bytes of one instance, CPUs that share it, bytes of all instances."""

    bytes: int
    shared_by: int
    total: int


@dataclass(frozen=True)
class Facts:
    """What this CPU says of itself; what it does not say is None or empty."""

    name: str
    vendor: str | None
    family: str | None
    isa: frozenset[str]
    cores: int
    hypervisor: bool | None
    caches: dict[str, Cache]
    memory: int | None = None  # where /proc/meminfo does not say
    performance_cores: int | None = None  # where /sys does not say

    @property
    def key(self) -> str:
        """A folder's name: "amd-epyc-zen5-2c"."""
        name = re.sub(FILLER, " ", self.name.lower())
        family = self.family if self.family and self.family not in name else ""
        words = slug(f"{name} {family}") or "cpu"
        return f"{words}-{self.cores}c"


def facts(cpus: Collection[int], root: Path = ROOT) -> Facts:
    """What is here, with the caches as these CPUs share them. Never raises."""
    said = text(root / "proc/cpuinfo")
    if said:
        return from_cpuinfo(said, cpus, root)
    if root == ROOT and sys.platform == "darwin":
        return from_sysctl(ask("sysctl", "hw", "machdep.cpu", "kern.hv_vmm_present"))
    name = platform.processor() or platform.machine() or "unknown CPU"
    return Facts(name, None, None, frozenset(), len(cpus), None, {})


def from_cpuinfo(said: str, cpus: Collection[int], root: Path) -> Facts:
    """Linux, on x86 and on ARM."""
    blocks = [fields(block) for block in said.split("\n\n") if block.strip()]
    first = blocks[0]
    features = [set((block.get("flags") or block.get("Features") or "").split()) for block in blocks]
    isa = (
        frozenset.intersection(*(frozenset(one) for one in features if one)) if any(features) else frozenset()
    )
    family = family_of(first)
    name = first.get("model name") or text(root / "sys/firmware/devicetree/base/model") or family
    online = cpu_list(text(root / CPUS / "online")) or tuple(cpus)
    cores = len({siblings(root, cpu) for cpu in online})
    found = caches(cpus, root)
    if not found and root == ROOT:
        found = caches_of_libc(ask("getconf", "-a"), len(cpus))
    return Facts(
        (name or platform.machine() or "unknown CPU").rstrip("\0"),
        first.get("vendor_id"),
        family,
        isa,
        cores,
        "hypervisor" in isa if "flags" in first else hypervisor_of_arm(root),
        found,
    )


def fields(block: str) -> dict[str, str]:
    """The `name : value` lines of one processor."""
    pairs = (line.partition(":") for line in block.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def family_of(first: dict[str, str]) -> str | None:
    """The core's design, by its numbers."""
    try:
        if "CPU part" in first:
            return ARM.get((int(first.get("CPU implementer", "0"), 16), int(first["CPU part"], 16)))
        family, model = int(first["cpu family"]), int(first["model"])
    except (KeyError, ValueError):
        return None
    if first.get("vendor_id") == "AuthenticAMD":
        return AMD[family](model) if family in AMD else None
    return INTEL.get(model) if family == 6 else None


def hypervisor_of_arm(root: Path) -> bool | None:
    """ARM has no flag for it; the firmware's names give the usual ones away."""
    folder = root / "sys/class/dmi/id"
    firmware = f"{text(folder / 'sys_vendor') or ''} {text(folder / 'product_name') or ''}".lower()
    if not firmware.strip():
        return None
    return "metal" not in firmware and any(word in firmware for word in HYPERVISORS)


def caches(cpus: Collection[int], root: Path = ROOT) -> dict[str, Cache]:
    """L1d, L2, L3 as these CPUs see them, from /sys."""
    instances: dict[str, dict[tuple[int, ...], int]] = {}
    for cpu in sorted(cpus):
        for folder in sorted((root / CPUS / f"cpu{cpu}" / "cache").glob("index[0-9]*")):
            level, size = number(folder / "level"), kibibytes(text(folder / "size"))
            if not level or not size or text(folder / "type") == "Instruction":
                continue
            sharing = cpu_list(text(folder / "shared_cpu_list")) or (cpu,)
            instances.setdefault("L1d" if level == 1 else f"L{level}", {})[sharing] = size
    return {
        level: Cache(max(found.values()), max(map(len, found)), sum(found.values()))
        for level, found in sorted(instances.items())
    }


@cache
def cache_bytes(level: str) -> int:
    """Bytes of L1d, L2 or L3 here, for a kernel that blocks for it; where nobody says, what is usual."""
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0}
    found = facts(cpus).caches.get(level)
    return found.bytes if found else USUAL[level]


def kibibytes(said: str | None) -> int | None:
    """Bytes of "48K" or "32M"."""
    matched = re.fullmatch(r"(\d+)([KMG]?)", said or "")
    return int(matched[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[matched[2]] if matched else None


def caches_of_libc(said: str, cores: int) -> dict[str, Cache]:
    """What the C library knows, where /sys is hidden: sizes, and the usual sharing."""
    sizes = dict(line.split()[:2] for line in said.splitlines() if len(line.split()) >= 2)
    made = {}
    for level, name in (("L1d", "LEVEL1_DCACHE"), ("L2", "LEVEL2_CACHE"), ("L3", "LEVEL3_CACHE")):
        size = kibibytes(sizes.get(f"{name}_SIZE"))
        if size:
            made[level] = Cache(size, cores, size) if level == "L3" else Cache(size, 1, size * cores)
    return made


def ask(*command: str) -> str:
    """What a small system program prints; nothing where there is no such program."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def from_sysctl(said: str) -> Facts:
    """macOS, on Apple silicon and on Intel."""
    values = fields(said)

    def whole(*names: str) -> int | None:
        return next((int(values[name]) for name in names if values.get(name, "").isdigit()), None)

    cores = whole("hw.physicalcpu", "hw.ncpu") or 1
    strong = whole("hw.perflevel0.physicalcpu") or cores
    found = {}
    for level in ("l1d", "l2", "l3"):
        size = whole(f"hw.perflevel0.{level}cachesize", f"hw.{level}cachesize")
        if size:
            shared = 1 if level == "l1d" else whole(f"hw.perflevel0.cpusper{level}") or 1
            found[level[0].upper() + level[1:]] = Cache(size, shared, size * max(1, strong // shared))
    isa = {
        name for apple, names in APPLE_FEATURES.items() for name in names if whole(f"hw.optional.arm.{apple}")
    }
    for feature in (
        values.get("machdep.cpu.features", "") + " " + values.get("machdep.cpu.leaf7_features", "")
    ).split():
        isa.add({"avx1.0": "avx"}.get(feature.lower(), feature.lower().replace(".", "_")))
    if whole("hw.optional.arm64"):
        isa |= {"fp", "asimd"}
    hypervisor = whole("kern.hv_vmm_present")
    return Facts(
        values.get("machdep.cpu.brand_string") or "Apple CPU",
        values.get("machdep.cpu.vendor"),
        None,
        frozenset(isa),
        cores,
        None if hypervisor is None else bool(hypervisor),
        found,
        whole("hw.memsize"),
        strong,
    )
