"""Scripts that stand in for a GPU: what its driver answers, and when its stream gets where."""

from types import SimpleNamespace


class NVMLError(Exception):
    """As the bindings raise it."""


NOT_SUPPORTED, NO_PERMISSION, LOST = (
    NVMLError("Not Supported"),
    NVMLError("Insufficient Permissions"),
    NVMLError("GPU is lost"),
)


class Nvml:
    """nvidia-ml-py with answers by question; an exception is raised, a list is answered one by one."""

    NVML_SUCCESS, NVML_CLOCK_SM, NVML_FI_DEV_POWER_INSTANT = 0, 1, 186
    NVMLError = NVMLError

    def __init__(self, **answers):
        self.answers = {
            "Init": None,
            "DeviceGetHandleByUUID": "handle",
            "DeviceGetHandleByIndex": "handle",
            "DeviceGetCount": 1,
            "DeviceGetName": "Made Up G100",
            "SystemGetDriverVersion": "999.1",
            "DeviceGetTotalEnergyConsumption": 5_000,
            "DeviceGetFieldValues": [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=120_000))],
            "DeviceGetPowerUsage": 100_000,
            "DeviceGetClockInfo": 1900,
            "DeviceGetMaxClockInfo": 1980,
            "DeviceGetCurrentClocksEventReasons": 0,
            "DeviceGetPowerManagementLimit": 700_000,
            "DeviceGetComputeRunningProcesses": (),
            "DeviceGetUtilizationRates": SimpleNamespace(gpu=0),
            "DeviceGetMigMode": NOT_SUPPORTED,
            "DeviceGetEccMode": (1, 1),
            "DeviceGetPersistenceMode": 1,
        } | answers

    def __getattr__(self, name):
        if name.startswith("__") or name.removeprefix("nvml") not in self.answers:
            raise AttributeError(name)

        def answer(*asked):
            said = self.answers[name.removeprefix("nvml")]
            if isinstance(said, list) and name != "nvmlDeviceGetFieldValues":
                said = said.pop(0) if len(said) > 1 else said[0]
            if isinstance(said, Exception):
                raise said
            return said

        return answer


def properties(**changes):
    """What torch says of a GPU."""
    about = {
        "name": "Made Up G100",
        "uuid": "12345678-0000",
        "major": 9,
        "minor": 0,
        "multi_processor_count": 132,
        "L2_cache_size": 1 << 20,
        "total_memory": 16 << 30,
    }
    return SimpleNamespace(**(about | changes))


class Event:
    """A mark: when the device gets there, seen from a host that is at `host`."""

    def __init__(self, at, stream):
        self.at, self.stream = at, stream

    def query(self):
        return self.stream.host >= self.at

    def elapsed_time(self, end):
        return (end.at - self.at) * 1e3


class Stream:
    """A stream on two clocks, the host's and the device's. Calls are made by `work`.

    The device takes up what it is given when it is done with what it has, and never before the host gave it.
    """

    FLUSH = 20e-6

    def __init__(self, recordable=True, free=8 << 30):
        self.host = self.device = 0.0
        self.recordable, self._free = recordable, free
        self.log = []
        self.recording = None

    def work(self, name, seconds, launch=5e-6, waits=False):
        """A call that takes the host `launch` seconds to queue, and the device `seconds`."""

        def call():
            self.log.append(name)
            if self.recording is not None:
                if waits:
                    raise RuntimeError("operation not permitted when stream is capturing")
                self.recording += seconds
                return name
            self.host += launch
            self._give(seconds)
            if waits:
                self.wait()
            return name

        return call

    def _give(self, seconds):
        self.device = max(self.device, self.host) + seconds

    def mark(self):
        return Event(max(self.device, self.host), self)

    def wait(self):
        self.host = max(self.host, self.device)

    def hold(self, seconds):
        self._give(seconds)

    def flush(self):
        self.log.append("flush")
        self._give(self.FLUSH)

    def graph(self, calls):
        self.recording = 0.0
        try:
            answers = [call() for call in calls]
        except RuntimeError:
            return None
        finally:
            seconds, self.recording = self.recording, None
        if not self.recordable:
            return None
        return self.work("replay", seconds), answers[-1]

    def free(self):
        return self._free
