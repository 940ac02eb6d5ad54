"""Causal: any causal language model out of a folder, judged by perplexity on a text of the user's.

The folder is as Hugging Face's transformers writes one: config.json, a tokenizer, weights as safetensors;
nothing is downloaded and no code of the folder's is run. Weights are read as float32. The text becomes tokens
as a whole, without tokens that mark its ends, and is cut into windows of as many as the model takes, 2048 at
most; in each window all tokens but the first are foretold. The layers made sparse are the linear ones, the
last one (the head) left out.

Small models are trained, too, on the text that others are calibrated on: further, or fresh ones of the same
configuration, whose tokens are few beside those that a model of the folder may have seen.
"""

import copy
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from suite.kernel import Refused
from suite.pattern import Pattern
from suite.patterns.n_of_m import NofM
from suite.patterns.unstructured import Unstructured
from suite.registry import Unusable
from suite.sources.compressed import Stored
from suite.studying.language import Language, drawn, split, windows
from suite.task import Batch, Task

LONGEST = 2048  # tokens of a window
CALIBRATED = 32  # windows that criteria see
HELD_BACK = 10  # one part in so many of a text is calibrated on, where no other text is given for it
LARGEST = 10 * 10**6  # weights of a model that is trained: in minutes, larger ones learn next to nothing
BATCH, LEARNED = 8, 256  # windows of a step, and tokens of each at most
LABEL = 16  # letters of a name in a protocol
CONFIG = "config.json"
OF_ACTIVATIONS = ("input_", "output_", "k_", "v_")  # scales of what goes in and comes out of a layer


class Causal(Language):
    """One seed of a model and a text: it picks what is calibrated on. All else is the same."""

    metric = "perplexity"
    steps, rate = 80, 1e-4  # of what goes on from the model of the folder
    anew = 60, 1e-3

    def __init__(self, folder: Path, corpus: Path, calibration: Path | None, seed: int) -> None:
        self.folder = folder
        text, other = tokens(folder, corpus), calibration and tokens(folder, calibration)
        size = length(folder)
        if other is None:
            held_back = len(text) // HELD_BACK
            other, text = text[:held_back], text[held_back:]
        if min(len(text), len(other)) < size:
            raise Refused(f"the text is too short: a window is {size} tokens, and parts of it have fewer")
        learned = drawn(other, CALIBRATED, size - 1, Generator().manual_seed(seed))
        judged = windows(text, torch.arange(0, len(text) - size + 1, size), size - 1)
        super().__init__(named(corpus), learned, judged)
        self._text = other

    def trains(self) -> None:
        count = sum(one.numel() for one in self.trained.parameters())
        if count > LARGEST:
            raise Refused(
                f"a model of {count / 1e6:.0f} million weights is too large to be trained in a study: "
                f"{LARGEST // 10**6} million are the most"
            )

    def model(self, width: float = 1.0) -> nn.Module:
        return fresh(wider(config(self.folder), width))

    def batches(self, generator: Generator) -> Iterator[Batch]:
        text, size = self._text, min(LEARNED, length(self.folder) - 1)
        while True:
            yield windows(text, torch.randint(len(text) - size, (BATCH,), generator=generator), size)

    def dense(self) -> nn.Module:
        return loaded(self.folder, self.folder)

    def layers(self, model: nn.Module) -> dict[str, nn.Module]:
        return linear(model)

    def logits(self, model: nn.Module, tokens: Tensor) -> Tensor:
        return model(input_ids=tokens, use_cache=False).logits

    def after(self, model: nn.Module, tokens: Tensor) -> Callable[[Tensor], Tensor]:
        past = model(input_ids=tokens, use_cache=True).past_key_values

        def answer(token: Tensor) -> Tensor:
            logits = model(input_ids=token, past_key_values=past, use_cache=True).logits
            past.crop(-token.shape[1])
            return logits

        return answer

    def calibration(self) -> Sequence[Batch]:
        return split(self.learned)  # a window at a time: the logits of all are too large

    def told(self, nats: float) -> float:
        return math.exp(nats)


def causal(folder: Path, corpus: Path, calibration: Path | None) -> Task:
    """The task of a model and a text; it has the name of the model's folder."""
    size = length(folder)
    of = calibration.stem[:LABEL] if calibration else f"first{100 // HELD_BACK}percent"
    judged = f"{corpus.stem[:LABEL]}-{size}-stride{size}"
    return Task(
        name=folder.name,
        about=f"The causal language model in a folder of the name {folder.name}, on {corpus.name}.",
        problem=partial(Causal, folder, corpus, calibration),
        protocol=f"{judged}-calibrated{CALIBRATED}x{size}-of-{of}-{vocabulary(folder)}",
        metric="perplexity",
        better="lower",
        patterns=patterns,
    )


def patterns(extent: str, trained: bool) -> list[Pattern]:
    """Few where something is trained, and in full studies alone."""
    if trained:
        return [NofM(2, 4), Unstructured(0.7), Unstructured(0.5)] if extent == "full" else []
    if extent == "smoke":
        return [Unstructured(0.5), NofM(2, 4)]
    chosen = [Unstructured(0.5), NofM(2, 4), *map(Unstructured, (0.6, 0.7, 0.4)), NofM(4, 8)]
    return [*chosen, *map(Unstructured, (0.2, 0.3, 0.8, 0.9))] if extent == "full" else chosen


def linear(model: Any) -> dict[str, nn.Module]:
    """The layers made sparse, by name."""
    head = model.get_output_embeddings()
    found: dict[str, nn.Module] = {
        name: one for name, one in model.named_modules() if isinstance(one, nn.Linear) and one is not head
    }
    if not found:
        raise Refused("the model has no linear layers beside its head")
    return found


def library() -> Any:
    """Hugging Face's transformers. Unusable: it is not installed."""
    try:
        import transformers  # pyright: ignore
    except ModuleNotFoundError:
        message = "--model needs transformers, which is not installed here: pip install 'sparsemark[llm]'."
        raise Unusable(message) from None
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


@cache
def config(folder: Path) -> Any:
    """What a folder says of its model. Unusable: it says nothing that is understood."""
    if not folder.is_dir():
        raise Unusable(f"--model {folder}: there is no such folder. Name one that holds {CONFIG}.")
    if not (folder / CONFIG).is_file():
        raise Unusable(f"--model {folder}: it holds no {CONFIG}. Name the folder of a model of transformers.")
    try:
        found = library().AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as failed:
        raise Unusable(f"--model {folder}: {CONFIG} is not understood: {sentence(failed)}.") from None
    vars(found).pop("quantization_config", None)  # weights are made whole here, not by what it asks for
    return found


def length(folder: Path) -> int:
    """Of a window, in tokens."""
    return min(LONGEST, getattr(config(folder), "max_position_embeddings", LONGEST))


@cache
def tokenizer(folder: Path) -> Any:
    """What makes tokens of a text. Unusable: the folder has none that is understood."""
    try:
        return library().AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as failed:
        raise Unusable(f"--model {folder}: its tokenizer is not understood: {sentence(failed)}.") from None


@cache
def vocabulary(folder: Path) -> str:
    """The tokenizer by its kind, how many tokens it knows, and their fingerprint."""
    made = tokenizer(folder)
    backend = getattr(made, "backend_tokenizer", None)
    kind = type(backend.model if backend else made).__name__[:LABEL]
    known = sorted(made.get_vocab().items(), key=lambda one: one[::-1])
    told = hashlib.sha256("\0".join(f"{at} {token}" for token, at in known).encode())
    return f"{kind}{len(known)}-{told.hexdigest()[:8]}"


@cache
def tokens(folder: Path, corpus: Path) -> Tensor:
    """A whole text."""
    text = corpus.read_text(encoding="utf-8")
    return torch.tensor(tokenizer(folder)(text, add_special_tokens=False, verbose=False).input_ids)


@cache
def named(corpus: Path) -> str:
    """A text's name and fingerprint."""
    return f"{corpus.stem}-{hashlib.sha256(corpus.read_bytes()).hexdigest()[:8]}"


def loaded(folder: Path, dense: Path, dtype: torch.dtype | str = torch.float32) -> nn.Module:
    """The weights of a folder in the model that another folder describes. Refused: they are of another.

    Weights that are compressed are made whole; activations are not rounded, whatever the folder says of them.
    dtype: "auto" for the one they are stored in.
    """
    stored = Stored.of(folder)
    model, told = type(outline(dense)).from_pretrained(
        None,
        config=config(dense),
        state_dict={name: stored.tensor(name) for name in stored},
        generation_config=library().GenerationConfig(),  # or it looks for one, and nothing is generated here
        dtype=dtype,
        output_loading_info=True,
    )
    layers = linear(model)
    wrong = {*told["missing_keys"], *map(str, told["mismatched_keys"])}
    for name in told["unexpected_keys"]:
        layer, _, part = name.rpartition(".")
        if layer in layers and not part.startswith(OF_ACTIVATIONS):
            wrong.add(f"{layer}.weight")  # it is not all of it that is understood
    if wrong := sorted(wrong):
        more = f" and {len(wrong) - 1} others" if len(wrong) > 1 else ""
        raise Refused(f"{folder.name} has no plain weights of {wrong[0]}{more}{kept_as(folder)}")
    return model.eval()


def outline(folder: Path) -> Any:
    """The model that a folder describes, without its weights."""
    with torch.device("meta"):
        return library().AutoModelForCausalLM.from_config(config(folder))


def kept_as(folder: Path) -> str:
    """A clause on how a folder says that its weights are stored, for one whose weights are not found."""
    try:
        told = json.loads((folder / CONFIG).read_text()).get("quantization_config") or {}
        named = told.get("format") or told.get("quant_method")
    except (OSError, ValueError, AttributeError):
        named = None
    return f"; it says that they are stored as {named}, which is not read here" if named else ""


def fresh(config: Any) -> nn.Module:
    """A model of this configuration that has learned nothing."""
    return library().AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def wider(config: Any, width: float) -> Any:
    """A configuration of about `width` times the hidden size and width ** 2 times the weights.

    Heads stay as many; their size is even, so hidden sizes come in steps, and the inner size of the
    feed-forward layers makes up for what these are off. Refused: no such model can be made.
    """
    if width == 1:
        return config
    names = "hidden_size", "intermediate_size", "num_attention_heads"
    if lacking := [name for name in names if not isinstance(getattr(config, name, None), int)]:
        raise Refused(f"a {type(config).__name__} has no {lacking[0]}: how to widen it is not known here")
    heads, size = config.num_attention_heads, config.hidden_size
    before = getattr(config, "head_dim", None) or size // heads
    head = 2 * max(1, round(width * before / 2))

    def of(inner: int) -> Any:
        made = copy.deepcopy(config)
        made.hidden_size, made.intermediate_size = size * head // before, inner
        if getattr(made, "head_dim", None):
            made.head_dim = head
        return made

    try:
        none, one = weights(of(1)), weights(of(2))
        return of(max(1, 1 + round((width**2 * weights(config) - none) / (one - none))))
    except Exception as failed:
        raise Refused(f"a {type(config).__name__} {width:.2f} times as wide: {sentence(failed)}") from None


def weights(config: Any) -> int:
    """Of the layers made sparse."""
    with torch.device("meta"):
        return sum(one.weight.numel() for one in linear(fresh(config)).values())  # pyright: ignore


def sentence(failed: Exception) -> str:
    """The first line of what went wrong, without its full stop."""
    return (str(failed).splitlines() or [type(failed).__name__])[0].rstrip(".")
