"""Recordings: queries, keys and values of a model that the user names, for attention and for decoding.

    made = record("models/tiny", Path("wiki.txt"), layers=(), most=8192)
    made[0].data                        # "tiny-1f3a9c02:6:wiki-5e9b21f0": weights, layer, text
    made[0].instead_of(case)            # the case on what was recorded

A recording is some windows of a text, as one layer of the model meets them: behind its projections and its
rotation, with as few heads of keys as it has. A case of seed 0 has the first window, one of any other seed
another: what selectors learn on other seeds is never what they are asked. Where windows begin depends on the
text alone, so a case means the same, whatever else is recorded. A model is a folder of Hugging Face's
transformers, read with a text of the user's, or a language model among the tasks, which has its own.
Any model will do that calls torch's scaled_dot_product_attention for its causal attention.

A recording is an Input under the name that cases carry as their data. Its numbers lie in a file that goes
when this process ends; a child process is told where with `use`.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from suite.case import Case
from suite.inputs import INPUTS, Input, is_recording
from suite.registry import Unusable
from suite.studying import causal, checkpoints
from suite.studying.language import Language
from suite.task import TASKS

OPS = ("attention_causal", "decode")  # what such a layer does with a text, and with the token after it
PARTS = ("q", "k", "v")
Labelled = tuple[str, Case]  # a case, and the workload it is of
FEW = 16  # tokens that show how many layers a model has
WINDOWS = 4  # of a text: the first, and those to learn on
ACROSS = 16  # blocks of a window, at least: among fewer there is little to choose
SMALLEST = 16  # tokens of a block, where that would make them smaller than a case has them

_paths: dict[str, str] = {}


class Asked(NamedTuple):
    """What a user wants recorded. layers: numbers from 0 on; none: the middle one."""

    model: str
    corpus: Path | None = None
    layers: tuple[int, ...] = ()

    def stated(self) -> dict[str, Any]:
        """As a header has it: names, for a path says something of its machine."""
        corpus = self.corpus and self.corpus.name
        return {"model": Path(self.model).resolve().name, "corpus": corpus, "layer": list(self.layers)}


@dataclass(frozen=True)
class Recording:
    """Of windows of n tokens in one layer: h heads of queries, g of keys and of values, d numbers each."""

    data: str
    h: int
    g: int
    n: int
    d: int

    def instead_of(self, case: Case) -> Case:
        """The case with these heads, and no longer than the recording, in whole blocks: its length may be 0.

        Of decode it is one sequence.
        """
        name = "t" if "t" in case.extent else "n"
        length, block = min(case[name], self.n), case["b"]
        while block > SMALLEST and length // block < ACROSS:
            block //= 2
        sizes = {"n": 1, "h": self.h, "g": self.g, "d": self.d, "b": block, name: length // block * block}
        return replace(case.with_sizes(**sizes), data=self.data)


def fits(case: Case) -> bool:
    """Whether a recording can stand in for a case's operands: what is worth keeping of them is to be chosen.

    Not for those of an input that knows right answers: a recording knows none.
    """
    drawn = INPUTS.get(case.data)
    return case.op in OPS and case.pattern.at_run_time and not (drawn and drawn.judge)


def instead(lists: Sequence[list[Labelled]], asked: Asked) -> list[list[Labelled]]:
    """Cases with the workloads they are of, on recordings; where these are shorter than a block, none.

    Unusable: then nothing is left.
    """
    made = record(asked, longest(case for one in lists for _, case in one))
    found = [list(dict.fromkeys(on(one, made))) for one in lists]
    if not any(found):
        most = max(each.n for each in made)
        raise Unusable(f"--corpus: {most} tokens of it were recorded, less than a block. Name a longer text.")
    return found


def on(cases: Iterable[Labelled], recordings: Sequence[Recording]) -> Iterator[Labelled]:
    """What stands in for each case, where anything does."""
    for label, case in cases:
        for one in recordings if fits(case) else ():
            made = one.instead_of(case)
            if all(made.extent.values()):
                yield label, made


def record_again(asked: Asked, cases: Sequence[Case]) -> None:
    """What these cases are of. Unusable: the model and the text that were asked for are others."""
    layers = {layer_of(case.data): case for case in cases if is_recording(case.data)}
    if other := asked.layers and sorted(layers.keys() - set(asked.layers)):
        raise Unusable(
            f"--layer {asked.layers[0]}: case {layers[other[0]]} is of layer {other[0]}. Leave --layer out."
        )
    made = record(asked._replace(layers=tuple(sorted(layers))), longest(cases))
    there = {one.data for one in made}
    for case in cases:
        if is_recording(case.data) and case.data not in there:
            raise Unusable(f"case {case} is of another recording than {min(there)}. Name its model and text.")


def longest(cases: Iterable[Case]) -> int:
    """The most tokens that one of these cases looks at. Unusable: none can be recorded for."""
    if lengths := [case.extent.get("t", case["n"]) for case in cases if fits(case)]:
        return max(lengths)
    raise Unusable(
        "--model is for cases in which it is chosen at run time what queries see, and of these none is. "
        "Name other workloads; `sparsemark list` says what there is."
    )


def layer_of(data: str) -> int:
    """Of a recording."""
    return int(data.split(":")[1])


def known() -> dict[str, str]:
    """Where each recording's file lies."""
    return dict(_paths)


def use(paths: Mapping[str, str]) -> None:
    """Make recordings known as inputs, as another process made them."""
    _paths.update(paths)
    for data, file in paths.items():
        INPUTS[data] = Input(data, "Recorded from a model: weights, layer, text.", partial(draw, file), OPS)


class Call(NamedTuple):
    """One layer's attention: q [h, n, d], k, v [g, n, d]; or why it is not the op's."""

    parts: tuple[Tensor, ...]
    why: str


class Named(NamedTuple):
    """A model and its text: the tokens of each window. read: some [windows, tokens] through the model."""

    model: nn.Module
    read: Callable[[Tensor], Any]
    windows: Sequence[Tensor]
    name: str
    text: str


def record(asked: Asked, most: int) -> list[Recording]:
    """Of each layer, windows of up to so many tokens; from here on they are inputs.

    Unusable: that cannot be done, and why.
    """
    one = named(asked, most)
    count = len(heard(one.read, one.windows[0][None, :FEW], None))
    if not count:
        raise Unusable(
            f"--model {asked.model}: it does not call torch's scaled_dot_product_attention, which is where "
            "queries, keys and values are recorded. Name another model."
        )
    layers = asked.layers or (count // 2,)
    if beyond := [layer for layer in layers if layer >= count]:
        raise Unusable(f"--layer {beyond[0]}: the layers of {asked.model} that attend are 0 to {count - 1}.")
    calls = [heard(one.read, window[None], frozenset(layers)) for window in one.windows]
    fingerprint = weights(one.model)
    return [
        kept(f"{one.name}-{fingerprint}:{layer}:{one.text}", [each[layer] for each in calls])
        for layer in sorted(calls[0])
    ]


def kept(data: str, calls: Sequence[Call]) -> Recording:
    """A layer's calls in a file, a window each, but for those too short to be attended to alike."""
    if calls[0].why:
        raise Unusable(f"--layer {layer_of(data)}: {calls[0].why}. Name another layer.")
    calls = [one for one in calls if not one.why]
    file = Path(folder().name) / f"{hashlib.sha256(data.encode()).hexdigest()}.safetensors"
    save_file(
        {
            f"{name}{at}": one
            for at, call in enumerate(calls)
            for name, one in zip(PARTS, call.parts, strict=True)
        },
        file,
    )
    use({data: str(file)})
    q, k, _ = calls[0].parts
    h, n, d = q.shape
    return Recording(data, h, len(k), n, d)


def cut(tokens: Tensor, most: int) -> list[Tensor]:
    """Windows of a text, of so many tokens at most: they begin at its quarters, however long they are.

    Windows of one length never meet: the first may be all of the text, that at the half is no longer than a
    half, those at the odd quarters no longer than a quarter, each rounded down, as where they begin is.
    """
    half, quarter = len(tokens) // 2, len(tokens) // 4
    rest = ((quarter, quarter), (half, half), (half + quarter, quarter))
    return [tokens[:most], *(tokens[at : at + min(most, long)] for at, long in rest if long)]


def named(asked: Asked, most: int) -> Named:
    """What a user named. Unusable: it is not there, or not what it is said to be."""
    at = Path(asked.model)
    if not at.is_dir():
        return of_task(asked, most)
    if asked.corpus is None:
        raise Unusable("--model needs a text to be recorded on. Name a file with --corpus.")
    at = at.resolve()
    checkpoints.word("--model", at)
    checkpoints.readable("--corpus", asked.corpus)
    most = min(most, getattr(causal.config(at), "max_position_embeddings", most))
    try:
        model: Any = causal.loaded(at, at, dtype="auto")
        model.set_attn_implementation("sdpa")
        windows = cut(causal.tokens(at, asked.corpus), most)
    except Exception as failed:  # of what a folder may lack, transformers says each in its own way
        raise Unusable(f"--model {asked.model}: it cannot be read: {causal.sentence(failed)}.") from None
    read = partial(model.base_model, use_cache=False)  # without the head, whose logits are large
    return Named(model, read, windows, at.name, causal.named(asked.corpus))


def of_task(asked: Asked, most: int) -> Named:
    """The model of a task, on windows it is judged on."""
    tasks: dict[str, Any] = {
        name: one.problem
        for name, one in TASKS.items()
        if isinstance(one.problem, type) and issubclass(one.problem, Language)
    }
    if asked.model not in tasks:
        raise Unusable(
            f"--model {asked.model}: there is no such folder. Name one that holds {causal.CONFIG}, "
            f"or a model that is here: {', '.join(sorted(tasks))}."
        )
    if asked.corpus:
        raise Unusable(f"--model {asked.model} has a text of its own. Leave --corpus out.")
    problem = tasks[asked.model](0)
    model = problem.dense()
    windows = problem.judged[0][:WINDOWS, :most]
    return Named(model, model, list(windows), asked.model, problem.data)


def weights(model: nn.Module) -> str:
    """A fingerprint of a model's weights."""
    made = hashlib.sha256()
    for name, one in sorted(model.state_dict().items()):
        made.update(f"{name} {one.dtype} {list(one.shape)}".encode())
        made.update(one.contiguous().flatten().view(torch.uint8).numpy())
    return made.hexdigest()[:8]


class Listening(TorchFunctionMode):
    """Within it, calls of attention are noted: those of some layers, or of all without their numbers."""

    def __init__(self, layers: frozenset[int] | None) -> None:
        super().__init__()
        self.layers, self.count = layers, 0
        self.calls: dict[int, Call] = {}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is scaled_dot_product_attention:
            if self.layers is None:
                self.calls[self.count] = Call((), "")
            elif self.count in self.layers:
                self.calls[self.count] = noted(*args, **(kwargs or {}))
            self.count += 1
        return function(*args, **(kwargs or {}))


def noted(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Call:
    """A call of torch's attention, whose own scale becomes the query's."""
    d = query.shape[-1]
    if attn_mask is not None or not is_causal:
        return Call((), "it attends under a mask of its own, not to all tokens before")
    if value.shape[-1] != d:
        return Call((), f"its keys have {d} numbers and its values {value.shape[-1]}")
    query = query * (scale * sqrt(d)) if scale is not None else query
    return Call(tuple(one[0].contiguous().clone() for one in (query, key, value)), "")


@torch.no_grad()
def heard(read: Callable[[Tensor], Any], window: Tensor, layers: frozenset[int] | None) -> dict[int, Call]:
    """What layers attend to in a window [1, tokens], by their numbers. Unusable: it cannot be read."""
    with Listening(layers) as listening:
        try:
            read(window)
        except Exception as failed:  # a model of anybody's, on a tokenizer's numbers
            raise Unusable(f"--model: it cannot read the text: {causal.sentence(failed)}.") from None
    return listening.calls


@cache
def folder() -> tempfile.TemporaryDirectory:
    """Where recordings lie as long as this process runs."""
    return tempfile.TemporaryDirectory(prefix="sparsemark-")


def draw(file: str, case: Case, source: torch.Generator) -> tuple[Tensor, ...]:
    """The operands of a case on a recording; nothing of them is drawn."""
    decode = "t" in case.extent
    length = case["t"] if decode else case["n"]
    with safe_open(file, framework="pt") as opened:
        count = len(opened.keys()) // len(PARTS)
        sizes = [opened.get_slice(f"q{at}").get_shape()[1] for at in range(count)]
        able = [at for at, size in enumerate(sizes) if size >= length]
        if not able:
            raise Unusable(f"{case}: {case.data} has windows of {sizes[0]} tokens. Give the case no more.")
        seeds = range(case.seed, case.seed + (case["n"] if decode else 1))
        at = [able[window(seed, len(able))] for seed in seeds]
        q, k, v = (
            torch.stack([opened.get_tensor(f"{name}{one}")[:, :length].float() for one in at])
            for name in PARTS
        )
    there = {"h": q.shape[1], "g": k.shape[1], "d": q.shape[3]}
    if wrong := [f"{name}={size}" for name, size in there.items() if case[name] != size]:
        raise Unusable(f"{case}: {case.data} has {', '.join(wrong)}. Give the case these sizes.")
    return (k, v, q[:, :, -1]) if decode else (q[0], k[0], v[0])


def window(seed: int, count: int) -> int:
    """Which window a seed has, of so many."""
    if seed and count == 1:
        raise Unusable("what is learned on other windows has none: the text is too short. Name a longer one.")
    return seed and 1 + (seed - 1) % (count - 1)
