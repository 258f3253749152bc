"""One independent random stream for everything that is drawn, so that nothing shifts when something else is added."""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int, *what: object) -> np.random.Generator:
    """A random generator that depends on the seed and on the names of what is drawn, and on nothing else."""
    digest = hashlib.sha256("\0".join([str(seed), *(str(name) for name in what)]).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))
