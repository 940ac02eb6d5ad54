"""Lines of runs that never were: a grid with a planted crossover, noise by seed, and every way to fail."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from suite import record
from suite.record import Ceilings, Line, Result, Run, Score

STARTED = "2026-01-02T03:04:05+00:00"
NO_METER = "this system shows no energy counter"


def header(**changes) -> Run:
    device = {"kind": "cpu", "name": "Made Up 9000", "cores": 2, "memory_gib": 16}
    given = {
        "schema": record.SCHEMA,
        "version": "0.1.0",
        "started": STARTED,
        "commit": "c0ffee5",
        "workloads": {"transformer": 1},
        "devices": {"made-up": device},
        "libraries": {"torch": "2.11.0"},
        "options": {"extent": "default"},
    }
    return Run(**(given | changes))


def ceilings() -> Ceilings:
    flops, bandwidth = {"float32": 2e12, "bfloat16": 4e12}, {"L1": 2e11, "memory": 1e11}
    return Ceilings(device="made-up", flops=flops, bandwidth=bandwidth, started=STARTED)


def line(**changes) -> Result:
    """A result line of a 1024 x 1024 spmm at 64 columns, unless told otherwise."""
    m, k, n = (changes.pop(size, default) for size, default in (("m", 1024), ("k", 1024), ("n", 64)))
    sparsity = changes.pop("sparsity", 0.9)
    pattern = changes.pop("pattern", f"unstructured@{sparsity:g}")
    dtype, data = changes.get("dtype", "float32"), changes.get("data", "")
    dense = changes.get("dense", False)
    nominal = 2 * m * k * n
    useful = round(nominal * (1 - sparsity))
    values = round(4 * m * k * (1 if dense else 1 - sparsity))
    case = f"spmm/m={m},k={k},n={n}/{pattern}/{dtype}/seed=0" + (f"/data={data}" if data else "")
    regime = "decode" if n <= 16 else "small batch" if n <= 256 else "prefill"
    ok = changes.get("outcome", "ok") == "ok"
    given = {
        "device": "made-up",
        "workload": "transformer",
        "op": "spmm",
        "case": case,
        "sizes": {"m": m, "k": k, "n": n},
        "pattern": pattern,
        "dtype": "float32",
        "seed": 0,
        "kernel": "spmm_csr_mine",
        "kernel_hash": "abc",
        "outcome": "ok",
        "visit": 1,
        "threads": 2,
        "started": STARTED,
        "sparsity": sparsity,
        "phase": regime,
        "execution": "dense" if dense else "sparse",
        "timer": "host",
        "setup_seconds": 0.01 if ok else None,
        "foreign": 0.01,
        "steal": 0.0,
        "clock_mhz": 3000.0,
        "energy_note": NO_METER,
        "flops_nominal": nominal,
        "flops_useful": useful,
        "flops_executed": nominal if dense else useful,
        "bytes_values": values,
        "bytes_metadata": 0 if dense else values,
        "bytes_live": 4 * n * (m + k),
    }
    return Result(**(given | changes))


def grid(
    seed: int = 0,
    crossover: float = 0.83,
    noise: float = 0.005,
    visits: int = 3,
    sparsities: tuple[float, ...] = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99),
    sizes: tuple[tuple[int, int, int], ...] = ((1024, 1024, 1), (1024, 1024, 64), (4096, 1024, 64)),
    samples: int = 20,
    failures: bool = True,
    **changes,
) -> Iterator[Line]:
    """A run in which the faster of two sparse kernels overtakes dense at `crossover`, everywhere."""
    rng = np.random.default_rng(seed)
    made = list(points(rng, crossover, noise, visits, sparsities, sizes, samples, changes))
    if failures:
        made += failed(sparsities, changes)
    yield header(planned=len({(one.case, one.kernel) for one in made}) + (8 if failures else 0))
    yield ceilings()
    yield from made


def points(rng, crossover, noise, visits, sparsities, sizes, samples, changes) -> Iterator[Result]:
    for visit in range(1, visits + 1):
        for m, k, n in sizes:
            for sparsity in sparsities:
                dense = 2.5e-10 * m * k * (0.2 + n / 50)
                ideal = dense * (1 - sparsity) / (1 - crossover)
                given = {"m": m, "k": k, "n": n, "sparsity": sparsity, "visit": visit} | changes
                for name, seconds, is_dense in (
                    ("spmm_dense_torch", dense, True),
                    ("spmm_dense_packed", dense * 1.3, True),
                    ("spmm_csr_mine", ideal, False),
                    ("spmm_csr_slow", ideal * 2.5, False),
                ):
                    drawn = seconds * np.exp(
                        noise * (rng.standard_normal() + rng.standard_normal(samples) / 5)
                    )
                    kept = [record.four_digits(float(second)) for second in drawn]
                    yield line(kernel=name, dense=is_dense, seconds=kept, calls=samples, **given)


def failed(sparsities, changes) -> list[Result]:
    """bfloat16 that nothing sparse runs, one wrong answer, one that never ends."""
    half = {"dtype": "bfloat16"} | changes
    made = []
    for sparsity in sparsities[:2]:
        made.append(
            line(kernel="spmm_dense_torch", dense=True, seconds=[1e-3] * 4, sparsity=sparsity, **half)
        )
        made.append(
            line(
                kernel="spmm_csr_mine",
                outcome="refused",
                note="needs amx_bf16, which Made Up 9000 lacks",
                sparsity=sparsity,
                **half,
            )
        )
    at = {"sparsity": sparsities[0]} | changes
    wrong = "[0, 0] is 1, should be 2, 3e+04 times the error float32 allows"
    made.append(line(kernel="spmm_blocked", outcome="wrong", note=wrong, **at))
    made.append(line(kernel="spmm_endless", outcome="timeout", note="no answer after 60 s", **at))
    return made


def score() -> Score:
    """A line of a study."""
    given = {"device": "made-up", "task": "digits", "protocol": "fixed", "data": "d", "method": "magnitude"}
    given |= {"pattern": "unstructured", "sparsity": 0.9, "seed": 0, "metric": "accuracy", "outcome": "ok"}
    return Score(**given, started=STARTED, value=0.9)


def write(file: Path, *lines: Line) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"".join(record.encode(one) for one in lines))
    return file
