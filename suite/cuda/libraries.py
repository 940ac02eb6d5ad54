"""Libraries: NVIDIA's own, called by ctypes: found once, and what they answer by status made an exception."""

from collections.abc import Collection, Iterable, Mapping
from ctypes import CDLL, c_char_p
from typing import Any

from suite.kernel import Refused


class Failed(RuntimeError):
    """A call that a library would not do; says which, and why in its words."""


def load(names: Iterable[str], signatures: Mapping[str, tuple[Any, ...]], error: str) -> Any:
    """The first library there is, its functions with their types; if torch has loaded it, that one.

    error: its function that puts a status into words. OSError: there is none, and why not.
    """
    refused = ""
    for name in names:
        try:
            found = CDLL(name)
        except OSError as failed:
            refused = refused or str(failed)
            continue
        for function, types in signatures.items():
            getattr(found, function).argtypes = types
        getattr(found, error).restype = c_char_p
        return found
    raise OSError(refused)


def answered(
    title: str, library: Any, error: str, cannot: Collection[int], function: str, status: int
) -> None:
    """What a call's status says: what the library does not support is a refusal, all else a failure."""
    if status:
        said = f"{function}: {getattr(library, error)(status).decode()} ({status})"
        raise Refused(f"{title} does not take it: {said}") if status in cannot else Failed(said)
