"""Causal: any causal language model out of a folder, judged by perplexity on a text of the user's.

The folder is as Hugging Face's transformers writes one: config.json, a tokenizer, weights as safetensors;
nothing is downloaded and no code of the folder's is run. Weights are read as float32. The text becomes tokens
as a whole, without tokens that mark its ends, and is cut into windows of as many as the model takes, 2048 at
most; in each window all tokens but the first are foretold. The layers made sparse are the linear ones, the
last one (the head) left out.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from suite.kernel import Refused
from suite.pattern import Pattern
from suite.patterns.n_of_m import NofM
from suite.patterns.unstructured import Unstructured
from suite.registry import Unusable
from suite.studying.language import Language, drawn, windows
from suite.task import Batch, Task

LONGEST = 2048  # tokens of a window
CALIBRATED = 32  # windows that criteria see
HELD_BACK = 10  # one part in so many of a text is calibrated on, where no other text is given for it
CONFIG = "config.json"


class Causal(Language):
    """One seed of a model and a text: it picks what is calibrated on. All else is the same."""

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
        self._answers: tuple[nn.Module | None, Tensor | None] = None, None  # of the dense model

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

    @torch.no_grad()
    def measure(self, model: nn.Module, dense: nn.Module) -> dict[str, float]:
        loss, said = self._judged(model)
        if self._answers[0] is not dense:
            self._answers = dense, said if model is dense else self._judged(dense)[1]
        agreed = (said == self._answers[1]).double().mean().item()
        return {"perplexity": math.exp(loss), "agreement": agreed, "nats per token": loss}

    def _judged(self, model: nn.Module) -> tuple[float, Tensor]:
        """The mean loss, and the likeliest token at each place."""
        losses, said = [], []
        for tokens, after in split(self.judged):
            logits = self.logits(model, tokens)[0].float()
            losses.append(cross_entropy(logits, after[0]).item())
            said.append(logits.argmax(-1))
        return math.fsum(losses) / len(losses), torch.stack(said)


def causal(folder: Path, corpus: Path, calibration: Path | None) -> Task:
    """The task of a model and a text; it has the name of the model's folder."""
    size = length(folder)
    of = f"-of-{calibration.stem}" if calibration else f"-of-first{100 // HELD_BACK}percent"
    return Task(
        name=folder.name,
        about=f"The causal language model in a folder of the name {folder.name}, on {corpus.name}.",
        problem=partial(Causal, folder, corpus, calibration),
        protocol=f"{corpus.stem}-{size}-stride{size}-calibrated{CALIBRATED}x{size}{of}",
        metric="perplexity",
        better="lower",
        patterns=patterns,
    )


def patterns(extent: str, trained: bool) -> list[Pattern]:
    """Nothing is trained."""
    if trained:
        return []
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


def split(both: tuple[Tensor, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Windows one by one."""
    return list(zip(*(one.split(1) for one in both), strict=True))


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
        return library().AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as failed:
        raise Unusable(f"--model {folder}: {CONFIG} is not understood: {sentence(failed)}.") from None


def length(folder: Path) -> int:
    """Of a window, in tokens."""
    return min(LONGEST, getattr(config(folder), "max_position_embeddings", LONGEST))


@cache
def tokens(folder: Path, corpus: Path) -> Tensor:
    """A whole text."""
    tokenizer = library().AutoTokenizer.from_pretrained(folder, local_files_only=True)
    text = corpus.read_text(encoding="utf-8")
    return torch.tensor(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)


@cache
def named(corpus: Path) -> str:
    """A text's name and fingerprint."""
    return f"{corpus.stem}-{hashlib.sha256(corpus.read_bytes()).hexdigest()[:8]}"


def loaded(folder: Path, dense: Path, dtype: torch.dtype | str = torch.float32) -> nn.Module:
    """The weights of a folder in the model that another folder describes. Refused: they are of another.

    dtype: "auto" for the one they are stored in.
    """
    model, told = library().AutoModelForCausalLM.from_pretrained(
        folder,
        config=config(dense),
        generation_config=library().GenerationConfig(),  # or it looks for one, and nothing is generated here
        dtype=dtype,
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
    )
    if wrong := sorted({*told["missing_keys"], *map(str, told["mismatched_keys"])}):
        more = f" and {len(wrong) - 1} others" if len(wrong) > 1 else ""
        raise Refused(f"{folder.name} has no plain weights of {wrong[0]}{more}")
    return model.eval()


def sentence(failed: Exception) -> str:
    """The first line of what went wrong, without its full stop."""
    return (str(failed).splitlines() or [type(failed).__name__])[0].rstrip(".")
