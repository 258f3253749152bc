"""Single pictures of people, as the data sets that consist of such have them: COCO, MPII."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from posekit.records import Camera

_FOCAL = 600.0 / 640.0
"""Focal length over the side of the picture: a guess, a field of view of 56 degrees."""


@runtime_checkable
class PersonInPhoto(Protocol):
    """Someone whom a row is made of; `bbox` is x0, y0, x1, y1, and both are px of the picture."""

    @property
    def number(self) -> int:
        """The same in every file that tells of the picture."""

    @property
    def bbox(self) -> Float[np.ndarray, "4"]:
        """What crops are made around."""

    @property
    def keypoints(self) -> Float[np.ndarray, "J 3"]:
        """x, y and confidence; NaN and 0 for joints without a label."""


@runtime_checkable
class Photo(Protocol):
    """A picture with the people that are taken of it."""

    @property
    def image_id(self) -> int:
        """The frame of its rows."""

    @property
    def file(self) -> Path | None:
        """None where there is none."""

    @property
    def people(self) -> Sequence[PersonInPhoto]:
        """In the order of their rows."""


def shared_camera(name: str, side: int) -> Camera:
    """The one camera of all pictures: its lens is a guess (a field of view of 56 degrees) and its pose is unknown.

    Such data sets say nothing of cameras, and pictures differ in size; only weak perspective means anything for them.
    `side` (px) is about that of the larger pictures.
    """
    middle = (side - 1) / 2
    intrinsics = np.array([[_FOCAL * side, 0.0, middle], [0.0, _FOCAL * side, middle], [0.0, 0.0, 1.0]])
    return Camera(name, side, side, intrinsics, posed=False)
