"""Routes: which tokens an expert gets, where every token goes to the same number of experts.

Rows are experts and columns tokens, so the length of a row is the load of an expert. Each token draws its
experts without replacement, by weights that say how popular each is: Gumbel noise is added to their
logarithms, and the highest stay (Kool, van Hoof and Welling, "Stochastic Beams and Where to Find Them", ICML
2019). The kinds of routes differ in these weights alone.
"""

import numpy as np

from suite.pattern import Pattern, Positions, pattern, rounded, sparsity_faults
from suite.patterns.positions import AT_ONCE, from_flat

SURE = 1e6  # a weight's logarithm that no noise outdoes


class Routes(Pattern):
    """A share of all experts for each token: the nearest whole number."""

    ops = ("moe", "moe_step", "moa")
    sparsity: float

    def faults(self, m: int, k: int) -> list[str]:
        return sparsity_faults(self.sparsity)

    def count(self, m: int, k: int) -> int:
        return k * rounded(self.sparsity, m)

    def positions(self, m: int, k: int, seed: int) -> Positions:
        rng = np.random.default_rng([seed, 0])
        top, popular = rounded(self.sparsity, m), self.popularity(m, k, rng)
        step, flat = max(1, AT_ONCE // m), [np.empty(0, np.int64)]
        for first in range(0, k if top else 0, step):
            tokens = np.arange(first, min(k, first + step))
            keys = popular[tokens if len(popular) == k else 0] + rng.gumbel(size=(len(tokens), m))
            chosen = np.argpartition(keys, m - top, axis=1)[:, m - top :]
            flat.append((chosen * k + tokens[:, None]).ravel())
        return from_flat(np.sort(np.concatenate(flat)), m, k)

    def popularity(self, m: int, k: int, rng: np.random.Generator) -> np.ndarray:
        """Logarithms of the experts' weights: [1, m], or for each token [k, m]."""
        raise NotImplementedError


@pattern("zipf{exponent}@{sparsity}", family="Zipf routes")
class Zipf(Routes):
    """The expert of rank r weighs r^-exponent; which expert has which rank is drawn. 0 is random routing."""

    exponent: float
    sparsity: float

    def popularity(self, m: int, k: int, rng: np.random.Generator) -> np.ndarray:
        return -self.exponent * np.log(rng.permutation(m) + 1.0)[None]


@pattern("dirichlet{concentration}@{sparsity}", family="Dirichlet routes")
class Dirichlet(Routes):
    """Weights are a draw of a Dirichlet distribution: the lower its concentration, the less even."""

    concentration: float
    sparsity: float

    def faults(self, m: int, k: int) -> list[str]:
        said = [] if self.concentration > 0 else [f"concentration {self.concentration:g} is not positive"]
        return said + super().faults(m, k)

    def popularity(self, m: int, k: int, rng: np.random.Generator) -> np.ndarray:
        return log_dirichlet(self.concentration, (1, m), rng)


@pattern("crowded@{sparsity}", family="crowded routes")
class Crowded(Routes):
    """All tokens go to one expert; their others are uniform."""

    sparsity: float

    def popularity(self, m: int, k: int, rng: np.random.Generator) -> np.ndarray:
        return np.where(np.arange(m) == rng.integers(m), SURE, 0.0)[None]


@pattern("idle@{sparsity}", family="idle experts")
class Idle(Routes):
    """Half of the experts get nothing, as long as the others suffice."""

    sparsity: float

    def popularity(self, m: int, k: int, rng: np.random.Generator) -> np.ndarray:
        return np.where(rng.permutation(m) < m // 2, -SURE, 0.0)[None]


@pattern("bursts{tokens}@{sparsity}", family="bursty routes")
class Bursts(Routes):
    """So many consecutive tokens have favourites in common, as the tokens of one text have."""

    tokens: int
    sparsity: float

    CONCENTRATION = 0.2  # of the favourites

    def faults(self, m: int, k: int) -> list[str]:
        return ([] if self.tokens else ["bursts of no tokens"]) + super().faults(m, k)

    def popularity(self, m: int, k: int, rng: np.random.Generator) -> np.ndarray:
        bursts = log_dirichlet(self.CONCENTRATION, (-(-k // self.tokens), m), rng)
        return bursts[np.arange(k) // self.tokens]


def log_dirichlet(concentration: float, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Logarithms of draws, up to a constant: a gamma of shape s is one of shape s + 1 times U^(1 / s)."""
    grown = np.log(rng.standard_gamma(concentration + 1, shape))
    return grown + np.log1p(-rng.random(shape)) / concentration
