"""Which of very many dense correspondences are kept."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int


def spread_over_parts(parts: Int[np.ndarray, " N"], count: int, random: np.random.Generator) -> Int[np.ndarray, " M"]:
    """Rows of at most `count` points, in their order, with equally many of every part as far as parts have so many.

    Dense predictions come by the thousand, most of them on the trunk; hands and feet would hardly count beside it.
    """
    if len(parts) <= count:
        return np.arange(len(parts))
    shuffled = random.permutation(len(parts))
    by_part = shuffled[np.argsort(parts[shuffled], kind="stable")]
    ordered = parts[by_part]
    turn = np.empty(len(parts), np.int64)
    # Parts take turns: first one point of each, then the second of each that has two, and so on.
    turn[by_part] = np.arange(len(parts)) - np.searchsorted(ordered, ordered)
    taken = shuffled[np.argsort(turn[shuffled], kind="stable")[:count]]
    return np.sort(taken)
