"""Sharding: the experts of a mixture over devices. Who computes which choice, and what is sent for it.

Every expert has one owner, which keeps its weights and what an optimiser knows of them. For a step its
weights may be copied to other devices (SparseAllGather), whose gradients go back to the owner and are added
there (SparseReduceScatter): Qing et al., "Hecate: Unlocking Efficient Sparse Model Training via Fully Sharded
Sparse Data Parallelism", 2025. Copies are decided anew from each step's counts; by which rule, is ours.

All is counted, nothing timed. asked: int64[devices, experts], how many choices of each expert the tokens of
each device make. owned and held: bool[devices, experts], whose an expert is, and where its weights are during
a step.
"""

import numpy as np

from suite.pattern import Positions

OWNERS = 2  # the random numbers of placements: a seed's 0 and 1 draw routes
EVEN = 1.05  # the busiest device's load over the mean from which copies are worth their memory


def asked_by(route: Positions, n: int, devices: int) -> np.ndarray:
    """Choices by device: each has an equal run of the n tokens of a route [experts, n]."""
    starts, tokens = route
    experts = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    asked = np.zeros((devices, len(starts) - 1), np.int64)
    np.add.at(asked, (tokens.astype(np.int64) * devices // n, experts), 1)
    return asked


def in_order(experts: int, devices: int) -> np.ndarray:
    """Neighbours live together: expert parallelism as it starts, owned[devices, experts]."""
    return np.arange(devices)[:, None] == np.arange(experts) * devices // experts


def at_random(experts: int, devices: int, seed: int = 0) -> np.ndarray:
    """As many experts to each device as in order, drawn by the seed, and not as routes are drawn by it."""
    return in_order(experts, devices)[:, np.random.default_rng([seed, OWNERS]).permutation(experts)]


def balanced(loads: np.ndarray, devices: int) -> np.ndarray:
    """The most asked expert first, each to the least busy device that has not its share of experts yet."""
    owned = np.zeros((devices, len(loads)), bool)
    share = -(-len(loads) // devices)
    for expert in np.argsort(-loads, kind="stable"):
        busy = np.where(owned.sum(1) < share, owned @ loads, np.inf)
        owned[busy.argmin(), expert] = True
    return owned


def work(held: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Choices that each device computes, int64[devices, experts].

    A token's own device answers for the experts it holds; other choices go to their holders in equal parts.
    """
    holders, away = held.sum(0), (asked * ~held).sum(0)
    turn = held.cumsum(0) - 1
    return held * (asked + away // holders + (turn < away % holders))


def straggler(held: np.ndarray, asked: np.ndarray) -> float:
    """The load of the busiest device over the mean of all: 1 is even."""
    busy = work(held, asked).sum(1)
    return float(busy.max() / busy.mean())


def materialised(owned: np.ndarray, asked: np.ndarray, slots: int) -> np.ndarray:
    """held: one copy more at a time, on devices of so many slots, until loads are even or none helps."""
    held = owned
    while (more := with_a_copy(held, asked, held.sum(1) < slots)) is not None:
        held = more
    return held


def with_a_copy(held: np.ndarray, asked: np.ndarray, room: np.ndarray) -> np.ndarray | None:
    """One more copy, of the largest work of the busiest device that helps, to where it helps most."""
    done = work(held, asked)
    busy = done.sum(1)
    slowest = busy.argmax()
    if busy[slowest] <= EVEN * busy.mean():
        return None
    for expert in np.argsort(-done[slowest], kind="stable")[: np.count_nonzero(done[slowest])]:
        takers = np.flatnonzero(room & ~held[:, expert]).tolist()
        tried = [copied(held, device, int(expert)) for device in takers]
        best = min(tried, key=lambda one: unevenness(one, asked), default=held)
        if unevenness(best, asked) < unevenness(held, asked):
            return best
    return None


def copied(held: np.ndarray, device: int, expert: int) -> np.ndarray:
    more = held.copy()
    more[device, expert] = True
    return more


def unevenness(held: np.ndarray, asked: np.ndarray) -> int:
    """Falls with every copy that helps, also while several devices are the busiest."""
    return int((work(held, asked).sum(1) ** 2).sum())


def copies(owned: np.ndarray, held: np.ndarray) -> int:
    """Experts that are sent to other devices before a step, and as many gradients after it."""
    return int((held & ~owned).sum())


def away(held: np.ndarray, asked: np.ndarray) -> int:
    """Choices whose token goes to another device, and whose answer comes back."""
    return int((asked * ~held).sum())
