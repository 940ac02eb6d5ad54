"""Conformance: is a kernel right? Small cases of every pattern that find the usual bugs; nothing is timed.

The same trials serve the registry's test, `sparsemark check` and a stranger's plug-in. A pattern is covered
as soon as it is registered: its examples follow from its fields.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache, lru_cache
from itertools import chain, product
from typing import Literal

import numpy as np
import torch

from suite import clocks
from suite.case import DTYPES, Case
from suite.check import Question, Wrong, check, poison, question
from suite.claims import claims, faults
from suite.device import Device
from suite.intact import Intact
from suite.kernel import Kernel, Prepared, Refused
from suite.op import OPS, Op, Operands, make_operands, weight
from suite.pattern import PATTERNS, Pattern
from suite.patterns.unstructured import Unstructured
from suite.quantized import as_stored
from suite.selector import ready
from suite.sparse import Sparse, from_positions

# By the names of an op's sizes: odd ones, single ones, and some beyond any tile.
SHAPES: dict[tuple[str, ...], tuple[tuple[int, ...], ...]] = {
    ("m", "k", "n"): (
        (17, 33, 5),
        (1, 1, 1),
        (64, 48, 1),
        (130, 70, 65),
        (3, 1, 64),
        (1, 200, 16),
        (600, 40, 3),
        (40, 700, 130),
        (48, 64, 8),
    ),
    ("m", "k", "p"): (
        (33, 33, 33),
        (1, 1, 1),
        (48, 64, 48),
        (130, 70, 65),
        (3, 1, 64),
        (1, 200, 1),
        (40, 300, 2000),
        (600, 40, 3),
        (130, 130, 130),
    ),
    ("h", "g", "n", "d", "b"): (
        (2, 1, 128, 32, 32),
        (1, 1, 16, 16, 16),
        (3, 3, 96, 64, 32),
        (4, 2, 128, 32, 16),
        (2, 2, 256, 128, 64),
    ),
    ("n", "e", "d", "f"): (
        (17, 5, 33, 9),
        (1, 1, 1, 1),
        (1, 8, 64, 48),
        (40, 6, 70, 65),
        (130, 3, 64, 32),
        (5, 33, 20, 40),
    ),
    ("n", "e", "d", "g", "f"): (  # one head where logits are twisted: what ties choose is then nothing
        (17, 5, 33, 2, 9),
        (1, 1, 1, 1, 1),
        (16, 8, 64, 3, 16),
        (48, 6, 70, 1, 32),
        (160, 3, 40, 2, 64),
        (5, 33, 20, 4, 8),
    ),
    ("n", "h", "g", "t", "d", "b"): (
        (2, 4, 2, 96, 32, 16),
        (1, 1, 1, 16, 16, 1),
        (3, 3, 3, 70, 64, 10),
        (2, 6, 2, 384, 48, 4),
        (1, 16, 1, 130, 128, 1),
        (1, 2, 1, 2560, 32, 64),
    ),
    ("n", "h", "g", "t", "d"): (
        (2, 4, 2, 33, 64),
        (1, 1, 1, 7, 16),
        (1, 3, 3, 70, 128),
        (2, 2, 1, 40, 80),
        (1, 1, 1, 1200, 32),
    ),
    ("m", "k", "n", "steps"): (  # whole layers of k units
        (34, 17, 5, 3),
        (2, 1, 1, 2),
        (64, 32, 16, 2),
        (210, 70, 33, 3),
        (300, 100, 64, 2),
    ),
    ("m", "k", "r", "n"): (
        (17, 33, 3, 5),
        (1, 1, 1, 1),
        (64, 48, 70, 1),
        (130, 70, 16, 65),
        (600, 40, 1, 3),
        (40, 700, 5, 130),
    ),
}
# Of which patterns use those where they exist; the first suits units of 2, 4, 8 and 16.
PLAIN: dict[tuple[str, ...], tuple[tuple[int, ...], ...]] = {
    ("m", "k", "n"): ((64, 48, 17), (17, 33, 5), (64, 48, 1), (130, 70, 65), (60, 60, 9)),
    ("m", "k", "p"): ((64, 64, 64), (64, 48, 64), (17, 33, 5), (130, 70, 65), (60, 60, 60)),
    ("h", "g", "n", "d", "b"): ((4, 2, 256, 32, 16), (2, 2, 64, 64, 16)),
    ("n", "e", "d", "f"): ((48, 16, 40, 24), (17, 5, 33, 9)),
    ("n", "e", "d", "g", "f"): ((32, 16, 40, 1, 16),),
    ("n", "h", "g", "t", "d", "b"): ((2, 8, 4, 512, 32, 16), (2, 8, 8, 64, 64, 4)),
    ("n", "h", "g", "t", "d"): ((2, 4, 2, 16, 64), (1, 2, 1, 17, 32)),
    ("m", "k", "n", "steps"): ((64, 32, 17, 2), (34, 17, 5, 2), (120, 60, 9, 2)),
    ("m", "k", "r", "n"): ((64, 48, 8, 17), (17, 33, 2, 5), (130, 70, 4, 65)),
}

SEARCHED = 33  # units up to which a pattern is looked for that no power of two makes

SPARSITIES = (0.0, 0.5, 0.9, 1.0)


@dataclass(frozen=True)
class Trial:
    """A case, and what is odd about its operands beside."""

    case: Case
    twist: str = ""

    def __str__(self) -> str:
        return f"{self.case} {self.twist}".strip()


@dataclass(frozen=True)
class Verdict:
    """What came of a trial: the share of the tolerance used, or a sentence that says what is wrong."""

    trial: Trial
    outcome: Literal["ok", "refused", "wrong", "broken"]
    note: str = ""
    error: float | None = None


def cases_for(kernel: Kernel) -> Iterator[Trial]:
    """The trials a kernel is meant for, by its op, dtypes and patterns."""
    brief = kernel.extents == ("full",)  # one that takes seconds to prepare: compiled for each shape
    for dtype in kernel.dtypes:
        fitting = (trial for trial in trials(kernel.op, dtype) if kernel.fits(trial.case))
        yield from (trial for at, trial in enumerate(fitting) if at == 1 or not brief)


@cache
def trials(op: str, dtype: str) -> tuple[Trial, ...]:
    """Every trial of an op in a dtype. The second is an ordinary one."""
    sizes = OPS[op].sizes
    if sizes not in SHAPES:
        raise ValueError(f"no trials for the sizes {', '.join(sizes)} of {op}; add some to SHAPES")
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")

    def one(pattern: Pattern, shape: tuple[int, ...], twist: str = "") -> Trial:
        return Trial(Case(op, tuple(zip(sizes, shape, strict=True)), pattern, dtype), twist)

    def matrix(shape: tuple[int, ...]) -> tuple[int, int]:
        return OPS[op].shape(one(Unstructured(0.5), shape).case)

    made = [one(Unstructured(s), shape) for shape in SHAPES[sizes] for s in SPARSITIES]
    made += [one(Unstructured(0.5), SHAPES[sizes][3], twist) for twist in TWISTS]
    for kind in (one for one in PATTERNS.values() if has(OPS[op], one)):
        for pattern in examples(kind, [matrix(shape) for shape in PLAIN[sizes]]):
            at = [shape for shape in PLAIN[sizes] if exists(pattern, *matrix(shape))]
            made += [one(pattern, shape) for shape in at]
            made += [one(pattern, shape, "signed zeros") for shape in at[:1]]
    return tuple(trial for trial in dict.fromkeys(made) if not OPS[op].rules(trial.case))


def has(op: Op, kind: type[Pattern]) -> bool:
    """Whether a matrix of this op may have such a pattern."""
    return op.name in (kind.ops or OPS) and (op.quality is not None or not kind.at_run_time)


def examples(kind: type[Pattern], shapes: Sequence[tuple[int, int]]) -> Iterator[Pattern]:
    """A few patterns of a kind, at all sparsities if it has one; units by choice powers of two."""
    types = {f.name: f.type if isinstance(f.type, str) else f.type.__name__ for f in fields(kind)}  # pyright: ignore
    whole = [name for name, type in types.items() if type == "int"]
    real = [name for name, type in types.items() if type == "float"]

    def made(units: tuple[int, ...], shares: Iterable[float]) -> Pattern:
        return kind(**dict(zip(whole, units, strict=True)), **dict(zip(real, shares, strict=True)))

    rising, alike = tuple(2 ** (at + 1) for at in range(len(whole))), (16,) * len(whole)
    found = []
    for units in chain((rising, alike), product(range(1, SEARCHED), repeat=len(whole))):
        if len(found) == 2:
            break
        tried = made(units, [0.5] * len(real))
        if units not in found and any(exists(tried, *shape) for shape in shapes):
            found.append(units)
    for units, shares in product(found, product(SPARSITIES, repeat=len(real))):
        yield made(units, shares)


def exists(pattern: Pattern, m: int, k: int) -> bool:
    """Whether there is an m x k matrix of this pattern; one that takes its nonzeros from a file has none."""
    return not pattern.faults(m, k)


# Twists: what a pattern never draws.


def signed_zeros(case: Case) -> Operands:
    """Stored zeros of both signs, and negative zeros among the live operands."""
    a = weight(case)
    a.values[::3], a.values[1::3] = -0.0, 0.0
    operands = OPS[case.op].around(case, a)
    for at in OPS[case.op].live:
        one = operands[at]
        (one.values if isinstance(one, Sparse) else one)[::2] = -0.0
    return operands


def rows_kept(choose: Callable[[np.ndarray], None]) -> Callable[[Case], Operands]:
    """A twist of where the nonzeros stand: `choose` edits the mask."""

    def twist(case: Case) -> Operands:
        a = weight(case)
        mask = np.zeros(a.shape, bool)
        mask[np.repeat(np.arange(a.shape[0]), a.row_lengths.numpy()), a.columns.numpy()] = True
        choose(mask)
        rows, columns = mask.nonzero()
        starts = np.searchsorted(rows, np.arange(a.shape[0] + 1))
        values = torch.randn(len(rows), generator=torch.Generator().manual_seed(1))
        made = as_stored(case, from_positions(starts, columns, values, a.shape, a.pattern))
        return OPS[case.op].around(case, made)

    return twist


def empty_rows(mask: np.ndarray) -> None:
    mask[::2] = mask[-1] = False


def full_rows(mask: np.ndarray) -> None:
    mask[::3] = mask[-1] = True


def one_long_row(mask: np.ndarray) -> None:
    mask[:] = False
    mask[len(mask) // 2] = True
    mask[0, -1] = True


TWISTS: dict[str, Callable[[Case], Operands]] = {
    "signed zeros": signed_zeros,
    "empty rows": rows_kept(empty_rows),
    "full rows": rows_kept(full_rows),
    "one long row": rows_kept(one_long_row),
}


@lru_cache(maxsize=1024)
def posed(trial: Trial) -> Question:
    """The operands of a trial and the answer, shared by all kernels."""
    return question(trial.case, TWISTS.get(trial.twist, make_operands)(trial.case))


def examine(kernel: Kernel, trial: Trial, device: Device) -> Verdict:
    """Ask twice, with other live operands in between and old answers spoilt; then look at what it claims."""
    shared = None
    try:
        if reasons := kernel.refusals(trial.case, device):
            return Verdict(trial, "refused", "; ".join(reasons))
        asked, live = posed(trial).of(kernel), OPS[kernel.op].live
        names = OPS[kernel.op].operands
        shared = Intact({names[at]: one for at, one in enumerate(asked.operands) if at not in live})
        made = ready(kernel, trial.case, copies(kernel, asked, device))
        error = answers(kernel, made, asked, shared, device)
        if said := faults(claims(made), made, asked):
            raise Wrong("; ".join(said))
    except Wrong as wrong:
        return Verdict(trial, "wrong", str(wrong))
    except Refused as reason:
        return Verdict(trial, "refused", str(reason))
    except KeyboardInterrupt:
        raise
    except BaseException as broken:  # SystemExit too: a kernel may fail in any way at all
        return Verdict(trial, "broken", f"{type(broken).__name__}: {broken}")
    finally:
        if shared:
            shared.changed()  # restores them for the next kernel
    return Verdict(trial, "ok", error=error)


def answers(kernel: Kernel, made: Prepared, asked: Question, shared: Intact, device: Device) -> float:
    """The worst error of three calls. All get the same live tensors, not those that prepare saw:

    neither an answer kept under their address nor one that reads what prepare was given survives.
    """
    op = OPS[kernel.op]
    given, worst = copies(kernel, asked, device), 0.0
    for one in (asked, asked.twin, asked):
        for at in op.live:
            given[at].copy_(device.place(one.operands)[at])
        own = Intact({op.operands[at]: given[at] for at in op.live})
        answer = made.run(*(given[at] for at in op.live))
        worst = max(worst, check(answer, one))
        poison(answer)
        if changed := [*own.changed(), *shared.changed()]:
            raise Wrong(
                f"it changes its operand {', '.join(changed)}, or answers with that memory; "
                "answer with its own"
            )
        if taken := clocks.replaced():
            raise Wrong(f"it replaces {taken[0]}, by which others take its time")
    return worst


def copies(kernel: Kernel, asked: Question, device: Device) -> Operands:
    """The operands as the kernel wants them: the live ones copied, the fixed ones as they are."""
    live = OPS[kernel.op].live
    placed = device.place(asked.operands)
    return kernel.arrange(tuple(one.clone() if at in live else one for at, one in enumerate(placed)), live)
