"""Claims: what a prepared kernel states about its work, settled, and held against the op.

What it states decides its rates on the page, so no kernel may claim less work than the nonzeros are, fewer
bytes than they fill, or bytes that it does not hold.
"""

from dataclasses import dataclass
from math import nan
from numbers import Real
from operator import index
from typing import Any

from suite.check import Question
from suite.held import size
from suite.kernel import Prepared
from suite.op import OPS


@dataclass(frozen=True)
class Claims:
    """FLOPs issued, bytes of values and of metadata, what was chosen, and what it runs as. None: not said."""

    executed: int | None
    values: int | None
    metadata: int | None
    algorithm: str | None
    executed_pattern: str | None = None


def claims(made: Prepared) -> Claims:
    """What it states, after a run: callables called, numbers whole, the note as text."""
    return Claims(
        executed=whole("executed", made.executed),
        values=whole("values", made.values),
        metadata=whole("metadata", made.metadata),
        algorithm=" ".join(f"{name}={value}" for name, value in made.note.items()) or None,
        executed_pattern=made.executed_pattern,
    )


def whole(name: str, stated: Any) -> int | None:
    """A stated number as an int, whichever library's number it is."""
    if callable(stated):
        stated = stated()
    if stated is None:
        return None
    try:
        number = index(stated)
    except TypeError:
        real = float(stated) if isinstance(stated, Real) else nan
        if not real.is_integer():
            raise TypeError(f"it states {name}={stated!r}; give a whole number, or None") from None
        number = int(real)
    if number < 0:
        raise ValueError(f"it states {name}={number}; give a number that is not negative, or None")
    return number


def faults(claims: Claims, made: Prepared, asked: Question) -> list[str]:
    """What it claims that cannot be: less work than the nonzeros, fewer bytes, more than it holds."""
    op, case = OPS[asked.case.op], asked.case
    said = []
    useful, least = op.useful(case, asked.operands), op.least_values(case, asked.operands)
    if claims.executed is not None and claims.executed < useful:
        said.append(f"it states {claims.executed} FLOPs executed; the nonzeros alone are {useful}")
    try:
        held = size(made.holds)
    except TypeError as unknown:
        return [*said, f"it holds what cannot be flushed: {unknown}"]
    if claims.values is None:
        return said
    stored = claims.values + (claims.metadata or 0)
    if stored < least:
        said.append(f"it states {stored} bytes of values and metadata; the nonzeros alone are {least}")
    if held < stored and not made.hidden:
        said.append(
            f"it states {stored} bytes of values and metadata, yet holds {held}; "
            "name each buffer in holds, or state hidden=True"
        )
    return said
