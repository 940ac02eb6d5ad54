"""The CPU device on other machines than this one: what it finds, which cores it takes, what it warns of."""

import json
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from suite.cpu import cautions, info, topology
from suite.cpu.device import Cpu
from suite.cpu.info import Cache
from suite.device import Noise
from suite.measure import Contender
from suite.registry import Unusable

QUIET = Noise(0.0, 0.0)


def grow(root, files):
    """A file system from a table of path -> content."""
    for path, content in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n")
    return root


def cpuinfo_of(count, **fields):
    fields = {
        name.replace("_", " ") if name != "vendor_id" else name: value for name, value in fields.items()
    }
    blocks = []
    for cpu in range(count):
        blocks.append("\n".join(f"{k}\t: {v}" for k, v in {"processor": cpu, **fields}.items()))
    return "\n\n".join(blocks)


def core(cpu, siblings, capacity=None, clock=None):
    folder = f"sys/devices/system/cpu/cpu{cpu}"
    made = {f"{folder}/topology/thread_siblings_list": siblings}
    if clock:
        made[f"{folder}/cpufreq/cpuinfo_max_freq"] = str(clock)
    if capacity:
        made[f"{folder}/cpu_capacity"] = str(capacity)
    return made


def level(cpu, index, level, size, shared, kind="Unified"):
    folder = f"sys/devices/system/cpu/cpu{cpu}/cache/index{index}"
    return {
        f"{folder}/level": str(level),
        f"{folder}/size": size,
        f"{folder}/shared_cpu_list": shared,
        f"{folder}/type": kind,
    }


def running(cpus, **more):
    return {
        "proc/self/status": f"Name:\tpython\nCpus_allowed_list:\t{cpus}",
        "sys/devices/system/cpu/online": cpus,
        "proc/meminfo": "MemTotal:       16000000 kB\nMemFree: 1 kB",
        "proc/self/cgroup": "0::/",
        **more,
    }


@pytest.fixture
def laptop(tmp_path):
    """Two performance cores of two threads each, four efficiency cores, on battery and saving power."""
    files = running("0-7")
    for cpu in range(8):
        strong = cpu < 4
        files |= core(
            cpu,
            f"{cpu // 2 * 2}-{cpu // 2 * 2 + 1}" if strong else str(cpu),
            clock=4700000 - 100000 * (cpu > 1),
        )
        if not strong:
            files[f"sys/devices/system/cpu/cpu{cpu}/cpufreq/cpuinfo_max_freq"] = "3400000"
        files[f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_driver"] = "intel_pstate"
        files[f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"] = "powersave"
        files[f"sys/devices/system/cpu/cpu{cpu}/cpufreq/energy_performance_preference"] = "balance_power"
        shared = f"{cpu // 2 * 2}-{cpu // 2 * 2 + 1}" if strong else "4-7"
        files |= level(cpu, 0, 1, "48K" if strong else "32K", shared if strong else str(cpu), "Data")
        files |= level(cpu, 1, 1, "32K", str(cpu), "Instruction")
        files |= level(cpu, 2, 2, "1280K" if strong else "2048K", shared)
        files |= level(cpu, 3, 3, "12M", "0-7")
    files |= {
        "sys/devices/cpu_core/cpus": "0-3",
        "sys/devices/cpu_atom/cpus": "4-7",
        "sys/class/power_supply/AC/type": "Mains",
        "sys/class/power_supply/AC/online": "0",
        "sys/class/power_supply/BAT0/type": "Battery",
        "sys/class/power_supply/BAT0/status": "Discharging",
        "sys/devices/system/cpu/intel_pstate/no_turbo": "1",
        "sys/firmware/acpi/platform_profile": "low-power",
        "proc/cpuinfo": cpuinfo_of(
            8,
            vendor_id="GenuineIntel",
            cpu_family=6,
            model=186,
            model_name="13th Gen Intel(R) Core(TM) i5-1335U",
            flags="sse2 avx2 fma avx_vnni clflushopt",
        ),
    }
    return grow(tmp_path, files)


@pytest.fixture
def server(tmp_path):
    """Two sockets of four cores with two threads each; AMX; this process may not use CPUs 0, 1 and 8."""
    files = running("0-15") | {"proc/self/status": "Cpus_allowed_list:\t2-7,9-15"}
    for cpu in range(16):
        sibling = (cpu + 8) % 16
        files |= core(cpu, f"{min(cpu, sibling)},{max(cpu, sibling)}", clock=3800000)
        pair = f"{min(cpu, sibling)},{max(cpu, sibling)}"
        socket = "0-3,8-11" if cpu % 8 < 4 else "4-7,12-15"
        files |= (
            level(cpu, 0, 1, "48K", pair, "Data")
            | level(cpu, 1, 2, "2M", pair)
            | level(cpu, 2, 3, "105M", socket)
        )
    files |= {
        "sys/devices/system/node/node0/cpulist": "0-3,8-11",
        "sys/devices/system/node/node1/cpulist": "4-7,12-15",
        "proc/cpuinfo": cpuinfo_of(
            16,
            vendor_id="GenuineIntel",
            cpu_family=6,
            model=143,
            model_name="Intel(R) Xeon(R) Platinum 8488C",
            flags="sse2 avx512f amx_tile amx_bf16 amx_int8 clflushopt",
        ),
    }
    return grow(tmp_path, files)


@pytest.fixture
def container(tmp_path):
    """Eight cores shown, one and a half granted, and two gigabytes."""
    files = running("0-7") | {
        "sys/fs/cgroup/cpu.max": "150000 100000",
        "sys/fs/cgroup/memory.max": str(2 << 30),
    }
    files["proc/cpuinfo"] = cpuinfo_of(
        8,
        vendor_id="AuthenticAMD",
        cpu_family=25,
        model=17,
        model_name="AMD EPYC",
        flags="sse2 avx512f hypervisor",
    )
    return grow(tmp_path, files)


@pytest.fixture
def arm(tmp_path):
    """A board of two big and four small cores, with a governor that saves power."""
    files = running("0-5")
    for cpu in range(6):
        files |= core(cpu, str(cpu), capacity=1024 if cpu >= 4 else 485)
        files[f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"] = "powersave"
        files[f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_driver"] = "cpufreq-dt"
    one = {"CPU_implementer": "0x41", "CPU_architecture": 8, "CPU_part": "0xd0b"}
    files["proc/cpuinfo"] = cpuinfo_of(6, Features="fp asimd asimddp bf16", **one)
    return grow(tmp_path, files)


def test_hybrid_laptop(laptop):
    cpu = Cpu(root=laptop)
    assert cpu.cpus == (0, 2)
    assert cpu.key == "intel-core-i5-1335u-raptor-lake-6c"
    assert cpu.facts.caches["L2"] == Cache(1280 << 10, 2, 2560 << 10)
    assert cpu.facts.caches["L1d"].bytes == 48 << 10
    assert cpu.facts.hypervisor is False
    said = " ".join(cautions.cautions(cpu.cpus, None, QUIET, root=laptop))
    for word in ("battery", "preference 'balance_power'", "boost is off", "low-power"):
        assert word in said
    assert "Governor" not in said  # with this driver "powersave" is what everyone has


def test_weak_cores_come_last(laptop):
    assert Cpu(threads=4, root=laptop).cpus == (0, 2, 4, 5)
    assert topology.pick(6, laptop) == (0, 2, 4, 5, 6, 7)


def test_hybrid_without_the_kernels_word(laptop):
    (laptop / "sys/devices/cpu_core/cpus").unlink()
    assert topology.pick(None, laptop) == (0, 2)


def test_server_stays_on_one_node(server):
    cpu = Cpu(root=server)
    assert cpu.cpus == (4, 5, 6, 7)  # the other node has one core less
    assert cpu.threads == 4
    assert cpu.key == "intel-xeon-platinum-8488c-sapphire-rapids-8c"
    assert cpu.facts.caches["L3"] == Cache(105 << 20, 8, 105 << 20)
    assert "amx_bf16" in cpu.isa
    # Of core 1, only the second thread is allowed.
    assert Cpu(threads=7, root=server).cpus == (2, 3, 4, 5, 6, 7, 9)


def test_too_many_threads(server):
    with pytest.raises(Unusable, match=r"--threads 8: this process may use 7 cores. Ask for 1 to 7"):
        Cpu(threads=8, root=server)
    with pytest.raises(Unusable, match="--threads 0"):
        Cpu(threads=0, root=server)


def test_threads_do_not_change_the_fingerprint(server):
    assert Cpu(root=server).fingerprint() == Cpu(threads=1, root=server).fingerprint()


def test_container(container):
    cpu = Cpu(root=container)
    assert cpu.cpus == (0,)
    assert cpu.memory == 2 << 30
    assert cpu.key == "amd-epyc-zen4-8c"
    assert cpu.facts.hypervisor is True
    assert "only whole cores" in " ".join(cautions.cautions(cpu.cpus, 1.5, QUIET, root=container))
    over = Cpu(threads=4, root=container)
    assert "use --threads 1" in " ".join(cautions.cautions(over.cpus, 1.5, QUIET, root=container))


def test_first_control_groups(tmp_path):
    root = grow(
        tmp_path,
        running("0-3")
        | {
            "proc/self/cgroup": "5:memory:/job/1\n4:cpu,cpuacct:/job/1\n0::/job/1",
            "sys/fs/cgroup/cpu,cpuacct/job/1/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu,cpuacct/job/1/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "250000",
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/job/1/memory.limit_in_bytes": "9223372036854771712",
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "1000000000",
        },
    )
    assert topology.quota(root) == 2.5
    assert topology.memory(root) == 1_000_000_000
    assert topology.pick(None, root) == (0, 1)


def test_arm(arm):
    cpu = Cpu(root=arm)
    assert cpu.cpus == (4, 5)
    assert cpu.key == "cortex-a76-6c"
    assert {"asimddp", "bf16"} <= cpu.isa
    assert cpu.clock_mhz() is None
    assert cpu.no_meter == "no energy meter: this CPU has no RAPL counters; only x86 CPUs do"
    assert "Governor 'powersave'" in " ".join(cautions.cautions(cpu.cpus, None, QUIET, root=arm))


def test_nothing_to_read(tmp_path):
    cpu = Cpu(root=tmp_path)
    assert cpu.threads >= 1 and cpu.memory > 0 and cpu.key.endswith("c")
    assert cpu.meter is None and "no counter" in cpu.no_meter
    assert cpu.noise()().foreign is None
    json.dumps(cpu.fingerprint())


def test_plugged_in_and_a_mouse(tmp_path):
    root = grow(
        tmp_path,
        {
            "sys/class/power_supply/mouse/type": "Battery",
            "sys/class/power_supply/mouse/scope": "Device",
            "sys/class/power_supply/mouse/status": "Discharging",
        },
    )
    assert not cautions.on_battery(root)
    grow(root, {"sys/class/power_supply/AC/type": "Mains", "sys/class/power_supply/AC/online": "1"})
    grow(root, {"sys/class/power_supply/B/type": "Battery", "sys/class/power_supply/B/status": "Discharging"})
    assert not cautions.on_battery(root)


def test_a_gpu_that_is_not_measured_is_named(tmp_path):
    assert not cautions.drivers(tmp_path)
    root = grow(tmp_path, {"proc/driver/nvidia/version": "NVRM version: 580.1"})
    assert "the NVIDIA GPU of this machine is not used" in " ".join(
        cautions.cautions((0,), None, QUIET, root=root)
    )


def test_cautions_about_others(tmp_path):
    said = list(cautions.cautions((0,), None, Noise(0.4, 0.1), "needs a C++ compiler", tmp_path))
    assert [one.split(":")[0][:20] for one in said] == [
        "Other processes use ",
        "The hypervisor gave ",
        "No native code here ",
    ]
    assert "40%" in said[0] and "10.0%" in said[1]
    assert not list(cautions.cautions((0,), 1.0, QUIET, root=tmp_path))


def test_macos():
    facts = info.from_sysctl(
        "hw.physicalcpu: 8\nhw.perflevel0.physicalcpu: 4\nhw.memsize: 17179869184\n"
        "hw.perflevel0.l1dcachesize: 131072\nhw.perflevel0.l2cachesize: 16777216\n"
        "hw.perflevel0.cpusperl2: 4\n"
        "hw.optional.arm64: 1\nhw.optional.arm.FEAT_BF16: 1\nhw.optional.arm.FEAT_SME: 0\n"
        "machdep.cpu.brand_string: Apple M2\nkern.hv_vmm_present: 0\n"
    )
    assert facts.key == "apple-m2-8c"
    assert facts.isa == {"fp", "asimd", "bf16"}
    assert facts.caches == {"L1d": Cache(131072, 1, 524288), "L2": Cache(16 << 20, 4, 16 << 20)}
    assert facts.memory == 16 << 30 and facts.hypervisor is False and facts.performance_cores == 4
    assert info.from_sysctl("").isa == frozenset()


def test_caches_the_c_library_knows():
    said = (
        "LEVEL1_DCACHE_SIZE  49152\nLEVEL2_CACHE_SIZE  1048576\nLEVEL3_CACHE_SIZE  33554432\nLEVEL4_CACHE\n"
    )
    found = info.caches_of_libc(said, 2)
    assert found["L2"] == Cache(1 << 20, 1, 2 << 20) and found["L3"] == Cache(32 << 20, 2, 32 << 20)


@pytest.mark.parametrize(
    ("name", "family", "key"),
    [
        ("AMD EPYC", "zen5", "amd-epyc-zen5-2c"),
        ("AMD Ryzen 7 7840U w/ Radeon 780M Graphics", "zen4", "amd-ryzen-7-7840u-zen4-2c"),
        ("Intel(R) Xeon(R) CPU @ 2.20GHz", None, "intel-xeon-2c"),
        ("AMD Ryzen 9 7950X 16-Core Processor", "zen4", "amd-ryzen-9-7950x-zen4-2c"),
        ("Intel(R) Core(TM) Ultra 7 155H", "meteor-lake", "intel-core-ultra-7-155h-meteor-lake-2c"),
        ("???", None, "cpu-2c"),
    ],
)
def test_key(name, family, key):
    assert info.Facts(name, None, family, frozenset(), 2, None, {}).key == key


@given(st.sets(st.integers(0, 300)))
def test_cpu_lists(cpus):
    assert topology.cpu_list(",".join(map(str, sorted(cpus)))) == tuple(sorted(cpus))


def test_cpu_list_ranges():
    assert topology.cpu_list("0-2,8,10-11") == (0, 1, 2, 8, 10, 11)
    assert topology.cpu_list(None) == topology.cpu_list("") == topology.cpu_list("junk") == ()


@given(st.text())
def test_any_cpuinfo_is_survived(said):
    key = info.from_cpuinfo(said, (0,), topology.Path("/nowhere")).key if said.strip() else "x"
    assert key == key.lower() and "/" not in key


def test_environment_binds_nothing():
    made = topology.environment(3)
    assert made["OMP_NUM_THREADS"] == made["MKL_NUM_THREADS"] == made["NUMBA_NUM_THREADS"] == "3"
    assert "OMP_PROC_BIND" not in made and "OMP_PLACES" not in made


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no affinity")
def test_pin_takes_every_thread_along():
    program = """
import os, threading
from pathlib import Path
from suite.cpu.topology import pin
done = threading.Event()
threading.Thread(target=done.wait, daemon=True).start()
one = min(os.sched_getaffinity(0))
pin([one])
assert all(os.sched_getaffinity(int(task.name)) == {one} for task in Path("/proc/self/task").iterdir())
"""
    subprocess.run([sys.executable, "-P", "-c", program], check=True, timeout=60)


def test_here():
    cpu = Cpu()
    assert cpu.place((1, 2)) == (1, 2)
    one = Contender("one", lambda: "answer", (torch.ones(100),))
    one.timer = cpu.timer(one, "cold")
    seconds = one.timer.sample()
    assert seconds > 0 and one.answer == "answer" and one.timer.name == "host"
    said = json.dumps(cpu.fingerprint())
    assert json.loads(said) == cpu.fingerprint()
    assert cpu.meter is not None or cpu.no_meter.startswith("no energy meter: ")
