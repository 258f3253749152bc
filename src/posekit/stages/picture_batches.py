"""Stored pictures as batches of a network's input, read ahead in threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from posekit.errors import FormatError
from posekit.training.stored_crops import StoredCrops

NO_PICTURE = "no picture stored"
BROKEN_PICTURE = "the stored picture cannot be decoded"

_MOST_READERS = 8


def read_ahead(
    crops: StoredCrops, target_from_stored: Float[np.ndarray, "N 2 3"], size: int, batch: int
) -> Iterator[tuple[UInt8[Tensor, "B S S 3"], list[str]]]:
    """Pictures of side `size`, black ones where something is wrong, and what that is; the next batch is read meanwhile."""
    places = np.array_split(np.arange(len(target_from_stored)), range(batch, len(target_from_stored), batch))
    with ThreadPoolExecutor(max_workers=min(_MOST_READERS, os.cpu_count() or 1)) as pool:

        def start(some: np.ndarray) -> list[Future[tuple[np.ndarray, str]]]:
            return [pool.submit(_picture, crops, int(place), target_from_stored[place], size) for place in some]

        ahead = start(places[0])
        for following in [*places[1:], np.zeros(0, int)]:
            if not ahead:
                return
            pictures, problems = zip(*(future.result() for future in ahead), strict=True)
            ahead = start(following)
            yield torch.from_numpy(np.stack(pictures)), list(problems)


def _picture(crops: StoredCrops, place: int, target_from_stored: np.ndarray, size: int) -> tuple[np.ndarray, str]:
    blank = np.zeros((size, size, 3), dtype=np.uint8)
    if not crops.present[place]:
        return blank, NO_PICTURE
    try:
        return crops.warped(place, target_from_stored, size, None), ""
    except FormatError:
        return blank, BROKEN_PICTURE
