"""Energy counters and noise, from scripted /sys and /proc: what they add up to, and refuse to say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.cpu import noise, rapl
from suite.device import Noise

RANGE = 262_143_328_850

ZONES = {
    "intel-rapl:0": "package-0",
    "intel-rapl:1": "package-1",
    "intel-rapl:0:0": "core",
    "intel-rapl:2": "psys",
    "intel-rapl-mmio:0": "package-0",
}


@pytest.fixture
def machine(tmp_path):
    """A file system with two packages and what lies inside the first."""
    (tmp_path / "proc").mkdir()
    for zone, name in ZONES.items():
        folder = tmp_path / rapl.ZONES / zone
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "max_energy_range_uj").write_text(f"{RANGE}\n")
        (folder / "energy_uj").write_text("1000\n")
    return tmp_path


def script(**values):
    """Counters that give these values one after another, or raise them."""
    left = {f"intel-rapl:{name[1:]}": list(said) for name, said in values.items()}

    def read(zone):
        said = left[zone.name].pop(0)
        if isinstance(said, Exception):
            raise said
        return said

    return read


def find(machine, hypervisor=False, **values):
    return rapl.find(machine, hypervisor, read=script(**values), rest=lambda _: None)


def test_two_packages_add_up(machine):
    meter, why = find(machine, z0=[10, 1_000_010, 3_000_010], z1=[500, 500, 2_000_500])
    assert why == "" and meter.source == "RAPL package-0 + package-1"
    assert meter.joules() == pytest.approx(5.0)


def test_a_counter_that_starts_anew(machine):
    meter, _ = find(machine, z0=[RANGE - 100, RANGE - 50, 1_999_950], z1=[0, 0, 0])
    assert meter.joules() == pytest.approx(2.00005)


@given(st.lists(st.integers(0, RANGE - 1), max_size=20), st.integers(0, RANGE - 1))
def test_any_turns(tmp_path_factory, steps, start):
    zone = tmp_path_factory.mktemp("zone")
    (zone / "max_energy_range_uj").write_text(str(RANGE))
    at, seen = start, [start]
    for step in steps:
        at = (at + step) % RANGE
        seen.append(at)
    meter = rapl.Rapl([zone], lambda _: seen.pop(0))
    read = [meter.joules() for _ in steps]
    assert read == sorted(read)
    assert (read or [0.0])[-1] == pytest.approx(sum(steps) / 1e6)


def test_backwards_without_a_range(machine):
    (machine / rapl.ZONES / "intel-rapl:0/max_energy_range_uj").unlink()
    meter, _ = find(machine, z0=[10, 20, 5], z1=[1, 2, 3])
    with pytest.raises(OSError, match="intel-rapl:0 went backwards from 20 to 5"):
        meter.joules()


def test_no_permission_names_the_command(machine):
    meter, why = find(machine, z0=[PermissionError(13, "Permission denied")])
    assert meter is None
    assert (
        "only root may read" in why and "`sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj`" in why
    )


def test_a_counter_that_never_moves(machine):
    meter, why = rapl.find(machine, True, rest=lambda _: None)
    assert meter is None
    assert why.startswith(
        "no energy meter: RAPL package-0 + package-1 does not move, as in most virtual machines"
    )
    meter, why = find(machine, z0=[0, 0], z1=[0, 0])
    assert meter is None and "does not move" in why


def test_a_counter_that_vanishes(machine):
    meter, _ = find(machine, z0=[1, 2, FileNotFoundError(2, "No such file")], z1=[1, 1])
    with pytest.raises(OSError, match="intel-rapl:0 stopped answering"):
        meter.joules()
    meter, why = find(machine, z0=[1, FileNotFoundError(2, "No such file")], z1=[1])
    assert meter is None and "stopped answering" in why


def test_no_folder(tmp_path):
    assert "no counter to programs" in rapl.find(tmp_path)[1]
    (tmp_path / "proc").mkdir()
    assert "virtual machine" in rapl.find(tmp_path, hypervisor=True)[1]
    assert "`sudo modprobe intel_rapl_msr`" in rapl.find(tmp_path, hypervisor=False)[1]
    assert "only x86" in rapl.find(tmp_path, x86=False)[1]


class Machine:
    """/proc/stat and clocks to be moved by hand; times in seconds."""

    def __init__(self, root):
        self.root, self.at, self.own = root, 0.0, 0.0
        self.times = {0: [100.0] * 8, 1: [100.0] * 8}
        (root / "proc").mkdir()
        self.write()

    def write(self):
        tick = noise.ticks_per_second()
        rows = [
            f"cpu{cpu} {' '.join(str(round(t * tick)) for t in times)} 0 0"
            for cpu, times in self.times.items()
        ]
        (self.root / "proc/stat").write_text("\n".join(["cpu  1 1 1 1 1 1 1 1 0 0", *rows, "intr 5"]) + "\n")

    def watch(self, cpus, clock=lambda: None):
        return noise.watch(cpus, clock, self.root, lambda: self.at, lambda: self.own)


def test_only_others_time_is_foreign(tmp_path):
    machine = Machine(tmp_path)
    seen = machine.watch((0, 1))
    machine.at, machine.own = 10.0, 12.0
    machine.times[0][noise.USER] += 10
    machine.times[1][noise.SYSTEM] += 4
    machine.times[1][noise.STEAL] += 1
    machine.times[1][noise.IDLE] += 5
    machine.write()
    assert seen() == Noise(pytest.approx(0.1), pytest.approx(0.05), None, None)


def test_other_cores_do_not_matter(tmp_path):
    machine = Machine(tmp_path)
    seen = machine.watch((0,))
    machine.at = 10.0
    machine.times[1][noise.USER] += 10
    machine.write()
    assert seen() == Noise(0.0, 0.0)


@given(st.floats(0.1, 100), st.lists(st.floats(0, 100), min_size=8, max_size=8), st.floats(0, 300))
def test_shares_are_shares(tmp_path_factory, elapsed, grown, own):
    machine = Machine(tmp_path_factory.mktemp("proc"))
    seen = machine.watch((0, 1))
    machine.at, machine.own = elapsed, own
    machine.times[0] = [before + more for before, more in zip(machine.times[0], grown, strict=True)]
    machine.write()
    said = seen()
    assert 0 <= said.foreign <= 1 and 0 <= said.steal <= 1


def test_too_short_to_tell(tmp_path):
    machine = Machine(tmp_path)
    seen = machine.watch((0,))
    machine.at = 0.01
    machine.times[0][noise.USER] += 0.01
    machine.write()
    assert seen() == Noise(None, None)


def test_the_clock_is_the_mean_of_before_and_after(tmp_path):
    clocks = iter([3000.0, 2000.0])
    assert Machine(tmp_path).watch((0,), lambda: next(clocks))().clock_mhz == 2500.0


def test_heat(tmp_path):
    machine = Machine(tmp_path)
    file = tmp_path / "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
    file.parent.mkdir(parents=True)
    file.write_text("7\n")
    seen = machine.watch((0,))
    machine.at = 1.0
    assert seen().throttle is None
    file.write_text("10\n")
    assert seen().throttle == "slowed for heat 3 times"


def test_nothing_to_read(tmp_path):
    assert noise.watch((0, 1), root=tmp_path)() == Noise()


def test_a_cpu_that_went_offline(tmp_path):
    machine = Machine(tmp_path)
    seen = machine.watch((0, 1))
    machine.at = 1.0
    del machine.times[1]
    machine.write()
    assert seen() == Noise()
