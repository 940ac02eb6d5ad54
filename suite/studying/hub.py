"""Hub: models by the names that the Hugging Face hub has for them, as folders.

`ORG/NAME`, or `ORG/NAME@REVISION`, where no folder of the name is here. What is read of a model is fetched
once, before anything is measured, and kept in the user's cache; code of the repository's is not.
"""

import re
from pathlib import Path

from suite import cache
from suite.registry import Unusable

NAMED = re.compile(r"\w[\w.-]*/\w[\w.-]*(@\w[\w./-]*)?")
READ = ("*.json", "*.safetensors", "*.model", "merges.txt", "vocab.txt")


def folder(model: Path | str) -> Path:
    """The folder of a model; one that is named as the hub names it is fetched. Unusable: it cannot be."""
    at, text = Path(model), str(model)
    if at.exists() or not NAMED.fullmatch(text) or ".." in text:
        return at
    try:
        from huggingface_hub import snapshot_download  # pyright: ignore
    except ModuleNotFoundError:
        raise Unusable(
            f"{text}: there is no such folder, and huggingface_hub, which fetches models by name, is "
            "not installed: pip install 'sparsemark[llm]'."
        ) from None
    name, _, revision = text.partition("@")
    kept = cache.folder("models") / (revision or "main") / name
    try:
        snapshot_download(name, revision=revision or None, local_dir=kept, allow_patterns=list(READ))
    except Exception as failed:  # of a network, a name, or a licence that nobody agreed to
        says = (str(failed).strip().splitlines() or [type(failed).__name__])[0].rstrip(".")
        raise Unusable(
            f"{text}: there is no such folder, and it cannot be fetched: {says}. Name a folder that "
            "is here, or look at the name, the network and the hub's login."
        ) from None
    return kept
