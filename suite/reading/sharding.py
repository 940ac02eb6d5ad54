"""Sharding: what placements of a mixture's experts on logical devices would send, and how evenly they load.

Counted from the route of a case, which its id gives anew: nothing here is measured, and nothing tells a time.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from suite.case import Case, from_id
from suite.formats import sharding
from suite.op import OPS, faults
from suite.registry import Unusable

FED = ("moe", "moe_step")  # whose experts want their tokens and nothing else: heads would want keys as well
DEVICES = 8  # logical ones
SPARE = 4  # a device has slots for this part of its experts more
LARGEST = 2**22  # experts times tokens, and any size, of a route that is made anew for a page


@dataclass(frozen=True)
class Placed:
    """A placement and what it counts to.

    tokens: bytes of tokens that are sent and of answers that return, once for each choice; weights: of copied
    experts; of a training step, of their gradients too. held: experts of the device that holds most.
    """

    name: str
    straggler: float
    tokens: int
    weights: int
    held: int


@cache
def placements(id: str) -> tuple[Placed, ...]:
    """Of the second half of a case's tokens; none for a route that cannot be made anew or divided so."""
    case = known(id)
    if case is None:
        return ()
    experts, n = OPS[case.op].shape(case)
    counts = sharding.asked_by(case.pattern.positions(experts, n, case.seed), n, 2 * DEVICES)
    before, asked = counts[:DEVICES], counts[DEVICES:]
    if not asked.any():
        return ()
    share = -(-experts // DEVICES)
    in_order = sharding.in_order(experts, DEVICES)
    rearranged = sharding.balanced(before.sum(0), DEVICES)
    some = sharding.materialised(in_order, asked, share + -(-share // SPARE))
    plans = {
        "experts stay, in order": (in_order, in_order),
        "experts stay, at random": (at_random := sharding.at_random(experts, DEVICES, case.seed), at_random),
        "experts stay, rearranged by the first half": (rearranged, rearranged),
        "sharded, copies by the counts": (in_order, some),
        "sharded, all gathered": (in_order, np.ones_like(in_order)),
    }
    return tuple(placed(name, case, *plan, asked) for name, plan in plans.items())


def known(id: str) -> Case | None:
    """The case of an id, if its route can be made anew in no time and every device has experts and tokens."""
    try:
        case = from_id(id)
        if case.op not in FED or faults(case) or case.pattern.given:
            return None
    except Unusable:
        return None
    experts, n = OPS[case.op].shape(case)
    enough = experts >= DEVICES and n >= 2 * DEVICES
    return case if enough and max(experts * n, *case.extent.values()) <= LARGEST else None


def placed(name: str, case: Case, owned: np.ndarray, held: np.ndarray, asked: np.ndarray) -> Placed:
    size = case.torch_dtype.itemsize * (2 if case.op == "moe_step" else 1)  # there and back again
    return Placed(
        name,
        sharding.straggler(held, asked),
        sharding.away(held, asked) * 2 * case["d"] * size,
        sharding.copies(owned, held) * 3 * case["d"] * case["f"] * size,
        int(held.sum(1).max()),
    )
