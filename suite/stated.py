"""Stated: a file's first line, what any line of a kernel says, and what all lines of a case say alike."""

from datetime import UTC, datetime
from typing import Any, Protocol

from suite import __version__, provenance, registry
from suite.case import Case
from suite.device import Device
from suite.op import OPS, Op
from suite.record import SCHEMA, Run, four_digits
from suite.sparse import Sparse, structure


class Raced(Protocol):
    """What a line may be of: a kernel, or a version of a model."""

    @property
    def name(self) -> str: ...

    @property
    def stated(self) -> dict[str, Any]:
        """What a line says of it, whatever became of it."""
        ...


def heading(device: Device, **about: Any) -> Run:
    """The first line of a file that this process makes. about: what it holds, and how that was asked for."""
    return Run(
        schema=SCHEMA,
        version=__version__,
        commit=provenance.commit(),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        devices={device.key: {"kind": device.kind, "name": device.name, **device.fingerprint()}},
        libraries=provenance.libraries(),
        plugins=list(registry.PLUGINS),
        **about,
    )


def describe(workload: str, case: Case, of: Raced, device: Device, visit: int, cache: str) -> dict[str, Any]:
    """What a line says, whatever came of it."""
    return {
        "device": device.key,
        "workload": workload,
        "op": case.op,
        "case": str(case),
        "sizes": dict(case.sizes),
        "pattern": str(case.pattern),
        "dtype": case.dtype,
        "seed": case.seed,
        "data": case.data,
        "phase": case.regime,
        **of.stated,
        "visit": visit,
        "cache": cache,
        "threads": device.threads,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def ledger(case: Case, operands: tuple[Any, ...]) -> dict[str, Any]:
    """What every line of a case states: sparsity counted on the operand, its structure, FLOPs and bytes."""
    op = OPS[case.op]
    sparse = op.sparse(operands)
    rounded = (
        {name: value and four_digits(value) for name, value in structure(sparse).items()} if sparse else {}
    )
    return {
        "sparsity": sparse and float(f"{achieved(op, case, sparse):.8g}"),
        "structure": rounded,
        "flops_nominal": op.nominal(case, operands),
        "flops_useful": op.useful(case, operands),
        "bytes_live": op.live_bytes(case, operands),
    }


def achieved(op: Op, case: Case, sparse: Sparse) -> float:
    """The share of the positions that could hold a nonzero and do not."""
    m, k = op.shape(case)
    room = op.room(case) if op.room else m * k
    return 1 - sparse.nonzeros / room if room else 0.0
