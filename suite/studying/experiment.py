"""Experiment: one task at one seed: the dense model, and a Score of each method that makes it sparse.

All methods of a seed go on from the same fresh weights or the same dense model, and see the same batches in
the same order: what differs between them is the method.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import torch
from torch import Generator, Tensor, nn

from suite.kernel import Refused
from suite.method import DENSE, KINDS, Method, named
from suite.pattern import Pattern, parse
from suite.patterns.unstructured import Unstructured
from suite.record import Outcome, Score, four_digits
from suite.studying.layers import Pass, Seen, Work
from suite.studying.quality import gini, pq_index
from suite.studying.sparsifier import Sparsifier, path_of
from suite.studying.updates import updates
from suite.task import Batch, Problem, Task

DRAWS = 10**6  # added to the seed of weights, so that masks are not drawn from the numbers that made those
SIDE = 5040  # of a matrix that all groups and blocks divide: how sparse it is, a pattern that failed would be

ISO = 0.02  # how far from equal FLOPs a model may be that is said to hold them equal


class Experiment:
    """A task at a seed, and what all its methods share."""

    problem: Problem
    dense: nn.Module

    def __init__(self, task: Task, seed: int, device: str) -> None:
        self.task, self.seed, self.device = task, seed, device
        self.dense_value: float | None = None

    def train_dense(self) -> Score:
        """Train the dense model, or take the one that the task has. First of all."""
        return self._tried(DENSE, DENSE.name, self.make_dense)

    def line(self, method: str, pattern: str, unfit: str = "") -> Score:
        """Make a model sparse, and judge it. unfit: why that is refused."""
        how, what = named(method), parse(pattern)
        if unfit:
            return lost(described(self.task, self.seed, self.device, how, pattern), "refused", unfit)
        return self._tried(how, pattern, lambda: self.sparsified(how, what))

    def sparsified(self, method: Method, pattern: Pattern) -> Sparsifier:
        """The sparsifier of a method, over and held to what was asked."""
        work, looked = self.work, []
        if "trainer" in method.parts and method.training != "none":
            self.problem.trains()
        if transform := method.parts.get("transform"):
            with counted(self.problem, looked):
                model, work = self._fresh(lambda: transform(self.problem, pattern)), None
        elif method.start == "fresh":
            model = self._fresh(self.problem.model)
        else:
            model = copy.deepcopy(self.dense)
        generator = self._generator()
        copied = method.start == "dense" and not transform
        seen = Seen(self.problem, model, generator, self.seen if copied else None)
        sparsifier = Sparsifier(self.problem, model, method, pattern, seen, work)
        sparsifier.spent.passes += [Pass(examples, each=self.work.total) for examples in looked]
        if trainer := method.parts.get("trainer"):
            trainer(sparsifier)
        elif method.prunes:
            sparsifier.prune()
        else:
            sparsifier.find()
        sparsifier.settle()
        off = sparsifier.forward_flops / self.work.total - 1
        if method.iso == "infer_flops" and abs(off) > ISO:
            raise ValueError(f"the model is said to take the dense one's FLOPs and is off by {off:+.1%}")
        return sparsifier

    def _tuned(self, sparsifier: Sparsifier) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(before, after, mask) of layers that went on from the dense ones and have their shape still."""
        for name, layer in sparsifier.layers.items():
            before = self.seen.layers[name].weight
            if before.shape == layer.weight.shape:
                every = torch.ones_like(before, dtype=torch.bool)
                yield before, layer.weight, sparsifier.masks.get(name, every)

    def make_dense(self) -> Sparsifier:
        """The same, judged by nobody: all that methods go on from."""
        torch.manual_seed(self.seed)
        self.problem = self.task.problem(self.seed)
        made = self.problem.dense()
        model = self._fresh(self.problem.model) if made is None else made
        seen = Seen(self.problem, model, self._generator())
        sparsifier = Sparsifier(self.problem, model, DENSE, Unstructured(0.0), seen)
        if made is None:
            for _ in sparsifier.schedule():
                sparsifier.step()
        self.dense, self.sizes = model.eval(), sparsifier.sizes
        self.problem.trained = self.dense
        self.work = Work(self.problem, model)
        self.seen = Seen(self.problem, model, self._generator())
        return sparsifier

    def _fresh(self, make: Callable[[], nn.Module]) -> nn.Module:
        """Of the same weights for every method that asks for the same shapes."""
        torch.manual_seed(self.seed)
        return make()

    def _generator(self) -> Generator:
        return Generator().manual_seed(DRAWS + self.seed)

    def _tried(self, method: Method, pattern: str, attempt: Callable[[], Sparsifier]) -> Score:
        """The line of an attempt, however it ends."""
        about = described(self.task, self.seed, self.device, method, pattern)
        began = perf_counter()
        try:
            sparsifier = attempt()
            seconds = perf_counter() - began
            quality = self.problem.measure(sparsifier.model.eval(), self.dense)
            value = quality.pop(self.task.metric)
            self.dense_value = value if method is DENSE else self.dense_value
            about |= {"data": self.problem.data} | ledger(sparsifier, method, self.sizes)
            kept = torch.cat([layer.weight[layer.weight != 0] for layer in sparsifier.layers.values()])
            quality |= {"pq index": pq_index(kept), "gini": gini(kept)}
            if method.training == "weights" and method.start == "dense" and "transform" not in method.parts:
                quality |= updates(self._tuned(sparsifier))
            if sparsifier.spent.moved:
                quality["mask changes"] = sparsifier.spent.moved / sum(sparsifier.sizes.values())
            if (ablated := sparsifier.spent.ablated) is not None:
                neurons = sum(len(layer.weight) for layer in sparsifier.layers.values())
                quality["ablated neurons"] = ablated / neurons
            about |= {"quality": {name: four_digits(of) for name, of in quality.items()}}
            about |= {"value": value, "dense_value": self.dense_value, "seconds": four_digits(seconds)}
            return Score(**about, outcome="ok")
        except Refused as refused:
            return lost(about, "refused", str(refused))
        except MemoryError as short:
            return lost(about, "memory", f"MemoryError: {short}")
        except Exception as broken:  # a stranger's part may fail in any way; the study goes on
            return lost(about, "broken", f"{type(broken).__name__}: {broken}")


@contextmanager
def counted(problem: Problem, looked: list[int]) -> Iterator[None]:
    """Notes the examples of each pass over the calibration data that a transform asks for meanwhile."""
    calibration = problem.calibration

    def calibrate() -> Sequence[Batch]:
        batches = calibration()
        looked.append(sum(map(problem.count, batches)))
        return batches

    problem.calibration = calibrate
    try:
        yield
    finally:
        del problem.calibration  # of this problem: that of its kind is there again


def lost(about: dict[str, Any], outcome: Outcome, note: str) -> Score:
    """The line of an attempt that came to nothing."""
    return Score(**about, outcome=outcome, note=note)


def described(task: Task, seed: int, device: str, method: Method, pattern: str) -> dict[str, Any]:
    """What a line says before anything is tried."""
    dense = method is DENSE
    return {
        "device": device,
        "task": task.name,
        "protocol": task.protocol,
        "data": "",
        "method": method.name,
        **{kind: method.parts[kind].name for kind in KINDS if kind in method.parts},
        "ids": sorted({*task.ids, *method.ids}),
        "control": method.control,
        "toy": task.toy,
        "start": "fresh" if dense else method.start,
        "training": "weights" if dense else method.training,
        "pattern": pattern,
        "sparsity": 0.0 if dense else parse(pattern).sparsity_of(SIDE, SIDE),
        "seed": seed,
        "metric": task.metric,
        "better": task.better,
        "iso": method.iso,
        "tuning_runs": method.tuning_runs,
        "execution": "simulated" if method.prunes else "dense",
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def ledger(sparsifier: Sparsifier, method: Method, dense_sizes: dict[str, int]) -> dict[str, Any]:
    """What a model weighs and costs, and what its training took.

    How a model was trained that was ready is not known here.
    """
    sizes, kept = sparsifier.sizes, sparsifier.nonzeros
    whole = sizes if method.prunes or sparsifier.chooses else dense_sizes
    parameters = list(sparsifier.model.parameters())
    others = sum(one.numel() for one in parameters) - sum(sizes.values())
    files = [part.data for part in method.parts.values() if part.data]
    paths = list(beside(sparsifier))
    ready = not sparsifier.spent.steps and (method is DENSE or method.training == "weights")
    return {
        "sparsity": max(0.0, 1 - sum(kept.values()) / sum(whole.values())),
        "layers": [
            {
                "name": name,
                "m": layer.weight.shape[0],
                "k": layer.weight.shape[1],
                "n": round(sparsifier.work.rows[name]),
                "pattern": str(sparsifier.patterns.get(name, DENSE)),
                "sparsity": four_digits(1 - kept[name] / sizes[name]),
                **({"data": files[0](name)} if files else {}),
            }
            for name, layer in sparsifier.layers.items()
        ]
        + paths,
        "execution": "simulated" if sparsifier.patterns else "dense",
        "nonzeros": sum(kept.values()) + sum(one["m"] * one["k"] for one in paths),
        "bytes": parameters[0].element_size() * others + stored(sparsifier, method),
        "train_flops": None if ready else sparsifier.spent.flops,
        "train_tokens": None if ready else sparsifier.spent.examples,
        "search_flops": None if ready else sparsifier.search_flops,
        "tuning_runs": None if ready else method.tuning_runs,
        "infer_flops": sparsifier.forward_flops,
    }


def beside(sparsifier: Sparsifier) -> Iterator[dict[str, Any]]:
    """Both layers of each path beside a layer: dense ones, which take their time like others."""
    for name, layer in sparsifier.layers.items():
        for end, weight in zip(("down", "up"), path_of(layer.module), strict=False):
            about = {"m": weight.shape[0], "k": weight.shape[1], "n": round(sparsifier.work.rows[name])}
            yield {"name": f"{name}.{end}", **about, "pattern": str(DENSE), "sparsity": 0.0}


def stored(sparsifier: Sparsifier, method: Method) -> int:
    """The bytes of all layers: values, and a bitmap where they are pruned, or what a part says it stores.

    Weights that are trained after that are the model's own numbers again. Those that only some examples use
    are stored like others.
    """
    own = [part.stored for part in method.parts.values() if part.stored and method.training == "none"]
    total = 0
    for name, layer in sparsifier.layers.items():
        if own and (name in sparsifier.masks or not method.prunes):
            mask = sparsifier.masks.get(name, torch.ones_like(layer.weight, dtype=torch.bool))
            total += own[-1](sparsifier.patterns.get(name, sparsifier.pattern), mask)
        elif name in sparsifier.masks:
            total += layer.weight.element_size() * sparsifier.nonzeros[name] + -(-sparsifier.sizes[name] // 8)
        else:
            total += layer.weight.element_size() * sparsifier.sizes[name]
    return total
