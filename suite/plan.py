"""Plan: which kernels are measured on which cases, in an order that can be cut anywhere.

Coarse to fine: every workload's anchor line at 50, 90, 70 and 95 % first, so that a run that is cut short
still answers from which sparsity on sparsity pays.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatch
from itertools import zip_longest
from typing import TYPE_CHECKING

from suite import models, recordings, sources, whole
from suite.case import DTYPES, Case, from_id
from suite.inputs import INPUTS, is_recording
from suite.kernel import Kernel
from suite.op import MODELS, OPS, faults, sparsity
from suite.pattern import Pattern, parse
from suite.patterns.n_of_m import NofM
from suite.patterns.unstructured import Unstructured
from suite.registry import Unusable, nearest, pick
from suite.selector import entries
from suite.workload import WORKLOADS, Workload

if TYPE_CHECKING:
    from suite.device import Device

FIRST = (0.5, 0.9, 0.7, 0.95)  # a crossover is bracketed after two points, and near after four


@dataclass(frozen=True)
class Item:
    """A case to measure, the workload it comes from, and the kernels that are meant for it."""

    workload: str
    case: Case
    kernels: tuple[str, ...]


def plan(
    workloads: Sequence[str],
    extent: str,
    *,
    kernels: str = "*",
    device_kind: str = "cpu",
    device: "Device | None" = None,
    axes: Mapping[str, Sequence[str]] | None = None,
    matrices: Sequence[str] = (),
    routes: Sequence[str] = (),
    cases: Sequence[str] = (),
    asked: recordings.Asked | None = None,
) -> list[Item]:
    """Items in order. `axes` replaces an axis of all that have it; `cases` are ids, measured as they are.

    asked: a model whose recordings stand in for what cases draw, or, where no text is named, the weights of
    its layers; other cases are then left out.
    `kernels` are globs, with commas between them. Of kernels that the device refuses with a selector, that is
    not said for every selector: they are left out. So are cases that nobody named and that have only dense
    kernels here, such as those of a dtype that a CPU has no sparse kernels for.
    """
    chosen = [pick("workload", name, WORKLOADS) for name in workloads] or list(WORKLOADS.values())
    if cases:
        label = chosen[0].name if workloads else ""
        named = [from_id(text) for text in cases]
        for case in named:
            exist(case)
        if asked:
            models.again(asked, named)
        ordered = [(label or home(case, extent), case) for case in named]
    else:
        layers = models.layers(asked) if asked else {}
        lists = [
            [(one.name, case) for case in cases_of(one, extent, axes or {}, matrices, routes, layers)]
            for one in chosen
        ]
        if layers and not any(lists):
            raise Unusable("--model needs a text for these workloads. Name a file with --corpus.")
        if asked and not layers:
            lists = models.instead(lists, asked)
        lists = [coarse_to_fine(cases) for cases in lists]
        ordered = [one for row in zip_longest(*lists) for one in row if one]
    globs = kernels.split(",")
    able = [
        one
        for name, one in entries().items()
        if one.on == device_kind and any(fnmatch(name, glob) for glob in globs)
    ]
    if not able:
        there = [name for name, one in entries().items() if one.on == device_kind]
        meant = next(filter(None, (nearest(glob, there) for glob in globs)), None)
        hint = f"Did you mean {meant!r}? " if meant else ""
        raise Unusable(
            f"--kernels {kernels!r} matches none of the {len(there)} kernels for {device_kind}. {hint}"
            "`sparsemark list` prints them all."
        )
    if kernels == "*":  # naming a kernel is asking for it at any extent
        able = [one for one in able if extent in one.extents]
    for _, case in ordered:
        exist(case)
        if is_recording(case.data) and case.data not in INPUTS:
            raise Unusable(
                f"case {case} is of a recording. Name its model with --model, its text with --corpus."
            )
        if not has_data(case):
            raise Unusable(
                f"case {case}: {case.op} knows no data called {case.data}. "
                "Name a model of yours with --model, its text with --corpus."
            )
    firsts: dict[Case, str] = {}
    for name, case in ordered:
        firsts.setdefault(case, name)  # two workloads may share a case; it is measured once
    items = [Item(name, case, fitting(case, able, device)) for case, name in firsts.items()]
    picked = axes or cases or matrices or routes or asked or kernels != "*"
    dense = {one.name for one in able if one.execution == "dense"}
    items = [one for one in items if (one.kernels if picked else set(one.kernels) - dense)]
    if not items:
        raise Unusable("none of the kernels chosen is meant for any of the cases chosen.")
    return items


def exist(case: Case) -> None:
    """Unusable: there is no such case."""
    if wrong := faults(case):
        raise Unusable(f"case {case}: {'; '.join(wrong)}.")


def has_data(case: Case) -> bool:
    """Whether what a case names as its data is there; of a file, its source says so."""
    if not case.data or case.of_file:
        return True
    if case.data in INPUTS:
        return case.op in INPUTS[case.data].ops
    return case.data in MODELS and case.op == whole.OP


def home(case: Case, extent: str) -> str:
    """The workload a bare case id belongs to: the first that has it at any extent, else the first of all."""
    for one in WORKLOADS.values():
        if any(case in set(one.cases(each)) for each in dict.fromkeys((extent, "smoke", "default", "full"))):
            return one.name
    return next(iter(WORKLOADS))


def fitting(case: Case, kernels: Iterable[Kernel], device: "Device | None" = None) -> tuple[str, ...]:
    """The kernels that are meant for a case."""
    return tuple(
        one.name
        for one in kernels
        if one.fits(case) and not (one.selector and device and one.refusals(case, device))
    )


def cases_of(
    workload: Workload,
    extent: str,
    axes: Mapping[str, Sequence[str]],
    matrices: Sequence[str],
    routes: Sequence[str] = (),
    layers: Mapping[str, Pattern] | None = None,
) -> list[Case]:
    """A workload's cases, with axes replaced; of matrices, routes and layers of files if there are any."""
    cases, layers = list(workload.cases(extent)), layers or {}
    if matrices or routes or layers:
        cases = [*on_matrices(cases, matrices), *on_routes(cases, routes), *on_layers(cases, layers)]
    for axis, values in axes.items():
        cases = [made for case in cases for made in spread(case, axis, values)]
    return list(dict.fromkeys(cases))


def on_matrices(cases: Sequence[Case], matrices: Sequence[str]) -> Iterator[Case]:
    """Each file's matrix in every op, at every number of columns the workload has in float32.

    Not in an op whose sparse matrix is not m x k. Where the other operand is sparse too, its p columns are
    as many as the matrix has rows: a square matrix meets itself, any other its transpose.
    """
    shapes = [
        case.with_sizes(m=0, k=0, p=0) for case in cases if case.dtype == "float32" and "m" in case.extent
    ]
    for text in matrices:
        data = sources.add(text)
        m, k = sources.shape(data)
        for op, sizes in dict.fromkeys((case.op, case.sizes) for case in shapes):
            made = Case(op, sizes, parse("given"), "float32", data=data).with_sizes(m=m, k=k, p=m)
            if OPS[op].shape(made) == (m, k):
                yield made


def on_layers(cases: Sequence[Case], layers: Mapping[str, Pattern]) -> Iterator[Case]:
    """Each layer's matrix as any file's; if it is N:M, that is what kernels are told.

    After it the same with a random matrix of its pattern: what its control is timed on.
    """
    for text, found in layers.items():
        made = list(on_matrices(cases, [text]))
        yield from (replace(one, pattern=found) if isinstance(found, NofM) else one for one in made)
        if isinstance(found, Unstructured):
            near = round(found.sparsity, 2)  # one time then stands for many
            found = Unstructured(near if 0 < near < 1 else found.sparsity)
        if found != Unstructured(0.0):
            yield from (replace(one, pattern=found, data="") for one in made)


def on_routes(cases: Sequence[Case], routes: Sequence[str]) -> Iterator[Case]:
    """Each file's routes, experts by tokens, in every layer of experts that the workload has."""
    for text in routes:
        data = sources.add(text)
        e, n = sources.shape(data)
        moved = (
            replace(case.with_sizes(e=e, n=n), pattern=parse("given"), seed=0, data=data)
            for case in cases
            if {"e", "n"} <= case.extent.keys()
        )
        yield from (one for one in dict.fromkeys(moved) if OPS[one.op].shape(one) == (e, n))


def has(case: Case, axis: str) -> bool:
    """Whether a case has this axis."""
    return axis in case.extent or axis in ("dtype", "seed") or axis in axes_of_pattern(case)


def axes_of_pattern(case: Case) -> set[str]:
    return {f.name for f in fields(case.pattern)} | {"pattern"}  # pyright: ignore[reportArgumentType]


def spread(case: Case, axis: str, values: Sequence[str]) -> list[Case]:
    """The case at each value of the axis; as it is, if it has no such axis."""
    if not has(case, axis) or (case.of_file and axis in ("m", "k", "pattern")):
        return [case]
    return [moved(case, axis, value) for value in values]


def moved(case: Case, axis: str, value: str) -> Case:
    """The case with one axis at another value."""
    try:
        if axis in case.extent:
            return case.with_sizes(**{axis: int(value)})
        if axis == "seed":
            return replace(case, seed=int(value))
        if axis == "dtype":
            return replace(case, dtype=value)
        if axis == "pattern":
            return replace(case, pattern=parse(value))
        kind = type(getattr(case.pattern, axis))
        return replace(case, pattern=replace(case.pattern, **{axis: kind(value)}))  # pyright: ignore
    except ValueError:
        raise Unusable(f"--set {axis}={value}: {value!r} is not a number.") from None


def without(items: Sequence[Item], axes: Iterable[str]) -> dict[str, list[str]]:
    """axis -> the workloads in which no case has it, for a notice."""
    seen: dict[str, list[str]] = {}
    for axis in axes:
        names = dict.fromkeys(item.workload for item in items)
        having = {item.workload for item in items if has(item.case, axis)}
        seen[axis] = [name for name in names if name not in having]
    return seen


def parse_axes(texts: Iterable[str]) -> dict[str, list[str]]:
    """`["sparsity=0.5,0.9", "n=64"]` as a mapping."""
    axes: dict[str, list[str]] = {}
    for text in texts:
        axis, equals, values = text.partition("=")
        if not equals or not axis or not all(values.split(",")):
            raise Unusable(
                f"--set {text!r}: write an axis and its values, such as --set sparsity=0.5,0.9, "
                "and workloads before it."
            )
        axes[axis] = values.split(",")
    for dtype in axes.get("dtype", ()):
        if dtype not in DTYPES:
            raise Unusable(f"--set dtype={dtype}: dtypes are {', '.join(DTYPES)}.")
    return axes


def coarse_to_fine(cases: Sequence[tuple[str, Case]]) -> list[tuple[str, Case]]:
    """Lines of sparsities in their order of importance: the anchor whole, the others' first points, the rest.

    A line with its first points answers a crossover; a cut then costs the least important lines, not a point
    of each.
    """
    groups: dict[tuple, int] = {}
    ranked = []
    for at, (name, case) in enumerate(cases):
        group = groups.setdefault(line_of(case), len(groups))
        extra = group > 0 and rank(case) == len(FIRST)
        ranked.append((extra, group, rank(case), at, name, case))
    return [(name, case) for *_, name, case in sorted(ranked, key=lambda one: one[:4])]


def line_of(case: Case) -> tuple:
    """What stays the same along a line of sparsities."""
    return case.op, case.sizes, case.pattern.family, case.dtype, case.seed, case.data


def rank(case: Case) -> int:
    """How early on its line a case comes: the nearest of the first points, else after them."""
    if case.pattern.given:
        return 0
    near = [at for at, first in enumerate(FIRST) if abs(first - sparsity(case)) < 0.015]
    return near[0] if near else len(FIRST)
