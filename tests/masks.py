"""Masks: where nonzeros may stand, for tests of what should take any matrix."""

import numpy as np
from hypothesis import strategies as st


@st.composite
def masks(draw, rows, columns):
    """(bool[m, k], generator), m and k up to these: rows of nothing and of everything among them."""
    m, k, seed = draw(st.integers(1, rows)), draw(st.integers(1, columns)), draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    mask = rng.random((m, k)) < draw(st.sampled_from((0.0, 0.1, 0.5, 1.0)))
    mask[rng.random(m) < 0.2] = False
    mask[rng.random(m) < 0.2] = True
    return mask, rng
