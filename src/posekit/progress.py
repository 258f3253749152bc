"""Progress bars: on a terminal only, on stderr only."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def track(items: Iterable[Item], what: str, *, total: int | None = None, unit: str = "it") -> Iterator[Item]:
    """The items, with a progress bar on stderr when that is a terminal."""
    yield from tqdm(
        items, desc=what, total=total, unit=unit, file=sys.stderr, disable=not sys.stderr.isatty(), leave=False
    )
