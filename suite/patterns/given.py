"""Given: the nonzeros stand where a file has them."""

from typing import NoReturn

from suite.pattern import Pattern, pattern
from suite.registry import Unusable


@pattern("given")
class Given(Pattern):
    """No rule at all. Only a case with data has this pattern, and its file says the rest."""

    given = True

    def faults(self, m: int, k: int) -> list[str]:
        return [self._needs()]

    def count(self, m: int, k: int) -> NoReturn:
        raise Unusable(f"{self._needs()}.")

    def positions(self, m: int, k: int, seed: int) -> NoReturn:
        raise Unusable(f"{self._needs()}.")

    def _needs(self) -> str:
        return "the pattern `given` is a file's own; name the file with --matrix FILE"
