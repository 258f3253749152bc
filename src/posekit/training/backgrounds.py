"""Pictures without people, which rendered bodies are laid over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from posekit.datasets.pictures import find_pictures
from posekit.datasets.stills import read_still
from posekit.progress import track
from posekit.training.pretext_inputs import background_crops, noise_backgrounds

_MOST = 1000
"""Pictures that are kept in memory, evenly chosen."""

_ROOM = 1.5
"""Shorter side of what is kept, over that of the crops."""


@dataclass(frozen=True, eq=False)
class Backgrounds:
    """Crops of `side` pixels out of pictures, or smooth noise where there are none."""

    side: int
    pictures: Sequence[UInt8[Tensor, "3 _ _"]] = ()

    @staticmethod
    def read(folder: Path, side: int) -> Backgrounds:
        """From all pictures of a folder and its sub-folders.

        Raises MissingFileError without any, FormatError for one that cannot be read.
        """
        paths = find_pictures(folder).paths
        chosen = np.unique(np.linspace(0, len(paths) - 1, min(_MOST, len(paths))).round().astype(int))
        return Backgrounds(side, [_shrunk(paths[row], side) for row in track(chosen, "backgrounds", unit="picture")])

    def crops(self, count: int, generator: torch.Generator) -> Float[Tensor, "B 3 S S"]:
        """So many of them, at random, in [0, 1]."""
        if not self.pictures:
            return noise_backgrounds(count, self.side, generator)
        rows = torch.randint(len(self.pictures), (count,), generator=generator).tolist()
        places = torch.rand(count, 2, generator=generator)
        return background_crops([self.pictures[row].float() / 255.0 for row in rows], self.side, places)


def _shrunk(path: Path, side: int) -> UInt8[Tensor, "3 H W"]:
    picture = read_still(path)
    shrink = _ROOM * side / min(picture.shape[:2])
    if shrink < 1:
        picture = cv2.resize(picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    return torch.from_numpy(picture).permute(2, 0, 1).contiguous()
