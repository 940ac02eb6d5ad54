"""Cautions: what about this machine, right now, will be in the numbers; each says what to do about it."""

from collections.abc import Collection, Iterator
from pathlib import Path

from suite.cpu.noise import cpu_times
from suite.cpu.topology import CPUS, ROOT, number, text
from suite.device import Noise

SLOW_GOVERNORS = ("powersave", "conservative", "userspace")
# With these drivers "powersave" is the everyday governor, and the energy preference decides.
SELF_GOVERNED = ("intel_pstate", "amd-pstate-epp", "amd_pstate_epp")
SLOW_PREFERENCES = ("power", "balance_power")

LOAD = 0.05  # share of the cores: below, ticks are too coarse to tell
STEAL = 0.005


def cautions(
    cpus: Collection[int], quota: float | None, seen: Noise, no_native: str = "", root: Path = ROOT
) -> Iterator[str]:
    """Everything to say before a run on these CPUs; `seen` is what a short watch found."""
    if on_battery(root):
        yield "On battery: clocks are held down and change with the charge; plug the machine in."
    yield from governed(cpus, root)
    if boost_off(root):
        yield (
            "Frequency boost is off: times are steadier but longer than this CPU gives others; "
            "keep it so only if you mean to (switch: intel_pstate/no_turbo or cpufreq/boost under /sys)."
        )
    if quota is not None and quota < len(cpus):
        yield (
            f"CPU quota of {quota:g} for {len(cpus)} threads: the system stops them for part of each period, "
            f"and times have gaps; use --threads {max(1, int(quota))} or raise the quota."
        )
    elif quota is not None and quota != int(quota):
        yield (
            f"CPU quota of {quota:g}: only whole cores are used; what else runs in this container may use "
            "up the rest and stop the run for part of a period; grant a whole number of CPUs."
        )
    if (seen.foreign or 0) > LOAD:
        yield (
            f"Other processes use {seen.foreign:.0%} of the pinned cores: times grow and scatter; "
            "stop them, or wait."
        )
    stolen = max(seen.steal or 0, steal_since_boot(cpus, root))
    if stolen > STEAL:
        yield (
            f"The hypervisor gave {stolen:.1%} of these cores' time to other guests: samples have gaps of "
            "milliseconds; more visits help, a dedicated machine more."
        )
    if graphics := drivers(root):
        yield f"The CPU is measured; the {graphics} of this machine is not used."
    if no_native:
        yield (
            f"No native code here ({no_native}): native kernels, the clock and cache bandwidths are missing, "
            "and caches are emptied by overwriting."
        )


def drivers(root: Path) -> str:
    """Which maker's GPU a driver shows, if any."""
    if (root / "proc/driver/nvidia/version").exists():
        return "NVIDIA GPU"
    return "AMD GPU" if (root / "sys/module/amdgpu").exists() and (root / "dev/kfd").exists() else ""


def on_battery(root: Path) -> bool:
    """Whether a laptop runs without its supply."""
    supplies = list((root / "sys/class/power_supply").glob("*"))
    mains = [number(supply / "online") for supply in supplies if text(supply / "type") in ("Mains", "USB")]
    if any(mains):
        return False
    batteries = [supply for supply in supplies if text(supply / "type") == "Battery"]
    # A mouse has a battery too; it does not power the system.
    own = [supply for supply in batteries if text(supply / "scope") != "Device"]
    return any(text(supply / "status") == "Discharging" for supply in own)


def governed(cpus: Collection[int], root: Path) -> Iterator[str]:
    """Settings that favour saving power."""
    folders = [root / CPUS / f"cpu{cpu}" / "cpufreq" for cpu in cpus]
    governors = settings(folders, "scaling_governor")
    drivers = settings(folders, "scaling_driver")
    slow = sorted(governors & set(SLOW_GOVERNORS)) if not drivers & set(SELF_GOVERNED) else []
    if slow:
        yield (
            f"Governor {slow[0]!r}: clocks stay below what the CPU reaches, and ratios shift with them; "
            "`sudo cpupower frequency-set -g performance`."
        )
    preferences = settings(folders, "energy_performance_preference")
    saving = sorted(preferences & set(SLOW_PREFERENCES)) if "performance" not in governors else []
    if saving and not slow:
        yield (
            f"Energy preference {saving[0]!r}: clocks rise late, and short calls look slow; "
            "`echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/energy*preference`."
        )
    if text(root / "sys/firmware/acpi/platform_profile") == "low-power":
        yield (
            "Platform profile 'low-power': power limits are lowered, and long calls slow down first; "
            "`echo performance | sudo tee /sys/firmware/acpi/platform_profile`."
        )


def settings(folders: list[Path], name: str) -> set[str]:
    """What a file of that name says, over all CPUs that have it."""
    return {said for folder in folders if (said := text(folder / name))}


def boost_off(root: Path) -> bool:
    """Whether the clocks above the nominal one are switched off."""
    return number(root / CPUS / "intel_pstate/no_turbo") == 1 or number(root / CPUS / "cpufreq/boost") == 0


def steal_since_boot(cpus: Collection[int], root: Path) -> float:
    """Share of busy time that was waited for; a short look now may miss a neighbour who comes and goes."""
    times = cpu_times(root, cpus)
    if times is None:
        return 0.0
    busy, stolen = times
    return stolen / (busy + stolen) if busy + stolen else 0.0
