"""Models: what of a model cases are of: the whole, a task's or the user's, or the weights of its layers.

How a whole one is pruned and raced says suite/whole.py.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from suite import recordings, sources
from suite.case import Case
from suite.op import MODELS
from suite.pattern import Pattern
from suite.recordings import Asked, Labelled
from suite.registry import Unusable
from suite.studying import checkpoints
from suite.studying.causal import length, linear, outline
from suite.studying.child import Brought
from suite.whole import of_tasks


def brought(asked: Asked | None) -> Brought | None:
    """The user's model as studies know one; None where it is a task's."""
    if asked is None or asked.corpus is None or not Path(asked.model).is_dir():
        return None
    return Brought(str(Path(asked.model).resolve()), str(asked.corpus.resolve()))


def used(asked: Asked | None) -> Brought | None:
    """The user's model where cases are of it; a model that is only recorded need be none of a study."""
    one = brought(asked)
    return one if one and Path(one.model).name in MODELS else None


def use(one: Brought) -> str:
    """The name by which cases have a model of the user's from here on. Unusable: it is no such model."""
    task = checkpoints.bring(one)
    of_tasks(task.name)
    return task.name


def instead(lists: Sequence[list[Labelled]], asked: Asked) -> list[list[Labelled]]:
    """Cases, with the workloads they are of, of the model that is asked for: as a whole, or on recordings."""
    mine = brought(asked) if any(case.data in MODELS for one in lists for _, case in one) else None
    name = use(mine) if mine else asked.model
    made = [
        list(dict.fromkeys((label, moved(case, mine, name)) for label, case in one if case.data in MODELS))
        for one in lists
    ]
    made = [[(label, case) for label, case in one if case.data == name] for one in made]
    if any(made) and not any(recordings.fits(case) for one in lists for _, case in one):
        return made
    return [[*one, *more] for one, more in zip(made, recordings.instead(lists, asked), strict=True)]


def layers(asked: Asked) -> dict[str, Pattern]:
    """The weights of a folder's linear layers, as `--matrix` names them, and the pattern of each.

    None where a text is named: it is then recorded on. Those of some layers, where these are asked for by
    number. Unusable: there are none.
    """
    if asked.corpus is not None or not Path(asked.model).is_dir():
        return {}
    found = checkpoints.matrices(Path(asked.model).resolve())
    if not asked.layers:
        return found
    numbers = {str(one) for one in asked.layers}
    some = {text: of for text, of in found.items() if numbers & set(text.rpartition(":")[2].split("."))}
    if not some:
        raise Unusable(f"--layer {asked.layers[0]}: {asked.model} has no layer of this number.")
    return some


def moved(case: Case, mine: Brought | None, name: str) -> Case:
    """A case of the largest layer of the user's model, at no more tokens than its windows have."""
    if mine is None:
        return case
    m, k = largest(Path(mine.model))
    return replace(case, data=name).with_sizes(m=m, k=k, n=min(case["n"], length(Path(mine.model)) - 1))


def again(asked: Asked, cases: Sequence[Case]) -> None:
    """Make known what these cases are of."""
    if weights := layers(asked):
        for text in weights:
            sources.add(text)
    elif (mine := brought(asked)) and any(case.data == Path(mine.model).name for case in cases):
        use(mine)
    else:
        recordings.record_again(asked, cases)


@lru_cache(maxsize=1)
def largest(folder: Path) -> tuple[int, int]:
    """Of the linear layers of a folder's model, the shape of that with the most weights."""
    layers = linear(outline(folder)).values()
    shapes = [(one.out_features, one.in_features) for one in layers]  # pyright: ignore
    return max(shapes, key=lambda of: of[0] * of[1])  # pyright: ignore
