"""Synthetic occlusion: objects cut out of photographs are pasted in front of people (Sarandi et al. 2018).

A picture is worked on in four channels, the fourth says how much of it objects cover. Objects are kept with their colours
multiplied by their opacity, and in halving sizes: a bilinear reduction then neither aliases nor lets a dark edge in. Of a
picture whose colour channels are multiplied, the opacity of the objects is no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from posekit.artifacts.files import Artifact
from posekit.artifacts.schema import OCCLUDERS
from posekit.datasets.cutouts import decode_cutout, multiplied
from posekit.errors import ConfigError, FormatError, InputError

_FULL = 255
_REFERENCE_SIDE = 256.0
"""Objects are as large as they are stored in pictures of this side (px)."""

Layer = UInt8[np.ndarray, "_ _ 4"]


class Occluders:
    """Objects that can be pasted, decoded; read-only, so that threads may share them."""

    def __init__(self, cutouts: Sequence[Layer], digest: str = "") -> None:
        """From cut-outs whose colours are not multiplied by their opacity; InputError where there is none."""
        if not cutouts:
            raise InputError("there is nothing to paste", accepted="at least one object")
        self.digest = digest
        self._levels = tuple(_halvings(multiplied(cutout)) for cutout in cutouts)

    @staticmethod
    def read(path: Path) -> Occluders:
        """The objects of an artifact. Raises MissingFileError, ArtifactError, FormatError, or InputError where it is empty."""
        with Artifact(path, OCCLUDERS) as artifact:
            encoded, digest = artifact.read_ragged("objects", "image"), artifact.digest
        if not encoded:
            raise InputError("the artifact holds no objects", got=path, hint="Run `posekit preprocess voc` again")
        try:
            return Occluders([decode_cutout(image) for image in encoded], digest)
        except FormatError as error:
            raise FormatError(f"{path} is damaged", got=error.what, hint="Make it again") from error

    @property
    def count(self) -> int:
        """How many objects there are."""
        return len(self._levels)

    def scaled(self, index: int, scale: float) -> Layer:
        """An object enlarged by `scale`, its colours multiplied by its opacity."""
        levels = self._levels[index]
        height, width = levels[0].shape[:2]
        size = max(1, round(width * scale)), max(1, round(height * scale))
        # The smallest of the stored sizes that has at least as many pixels along both sides.
        fits = [level for level in levels if level.shape[1] >= size[0] and level.shape[0] >= size[1]]
        return np.asarray(cv2.resize(fits[-1] if fits else levels[0], size, interpolation=cv2.INTER_LINEAR))


@dataclass(frozen=True)
class Occlusion:
    """How pictures are occluded.

    With the probability `p` a picture is. By `degree`, a share of the person's box is drawn between 0 and `max_degree`, and
    objects are pasted until that much is covered, or `most` are there. By `count`, `count_min` to `count_max` objects are
    pasted. Objects are scaled by a number between `scale_min` and `scale_max` in pictures of 256 px, and in proportion in
    others; their centres are anywhere in the picture. Raises ConfigError for values that cannot work.
    """

    p: float = 0.5
    mode: Literal["degree", "count"] = "degree"
    max_degree: float = 0.7
    most: int = 8
    count_min: int = 1
    count_max: int = 7
    scale_min: float = 0.2
    scale_max: float = 1.0

    def __post_init__(self) -> None:
        rules = {
            "p": (0.0 <= self.p <= 1.0, "0 to 1"),
            "mode": (self.mode in ("degree", "count"), "degree, count"),
            "max_degree": (0.0 <= self.max_degree <= 1.0, "0 to 1"),
            "most": (self.most >= 1, "1 or more"),
            "count_min": (1 <= self.count_min <= self.count_max, "1 to count_max"),
            "scale_min": (0.0 < self.scale_min <= self.scale_max < float("inf"), "above 0, up to scale_max"),
        }
        for name, (fine, accepted) in rules.items():
            if not fine:
                raise ConfigError(
                    f"occlusion cannot use this value of {name}", got=getattr(self, name), accepted=accepted
                )

    def paste(
        self,
        occluders: Occluders,
        picture: UInt8[np.ndarray, "H W 3"],
        person: Float[np.ndarray, "4"],
        generator: np.random.Generator,
    ) -> tuple[UInt8[np.ndarray, "H W 3"], float]:
        """A new picture with objects in front of it, and how much of the person's box they cover (0 to 1).

        `person` is x0, y0, x1, y1 in px of the picture. Counted is what of the box lies inside the picture, or all of the
        picture where nothing does; a pixel behind a translucent edge counts as much as the edge is opaque.
        """
        if generator.random() >= self.p:
            return picture.copy(), 0.0
        canvas = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA))
        canvas[..., 3] = 0
        box = canvas[_inside(person, picture.shape[0], picture.shape[1])]
        if self.mode == "count":
            for _ in range(int(generator.integers(self.count_min, self.count_max + 1))):
                self._add(occluders, canvas, generator)
        else:
            target = generator.random() * self.max_degree
            for _ in range(self.most):
                if _covered(box) >= target:
                    break
                self._add(occluders, canvas, generator)
        return np.asarray(cv2.cvtColor(canvas, cv2.COLOR_RGBA2RGB)), _covered(box)

    def _add(self, occluders: Occluders, canvas: Layer, generator: np.random.Generator) -> None:
        """Pastes one random object at a random place."""
        height, width = canvas.shape[:2]
        index = int(generator.integers(occluders.count))
        across, down, size = generator.random(3)
        scale = self.scale_min + (self.scale_max - self.scale_min) * float(size)
        layer = occluders.scaled(index, scale * min(height, width) / _REFERENCE_SIDE)
        left, top = round(across * width - layer.shape[1] / 2), round(down * height - layer.shape[0] / 2)
        blend(canvas, layer, left, top)


def blend(canvas: Layer, layer: Layer, left: int, top: int) -> None:
    """Puts a layer over a canvas, in place, its top left pixel at (left, top); clipped where it reaches beyond.

    The colours of both are multiplied by their opacity. Where the layer is clear, the canvas keeps its bytes.
    """
    rows = slice(max(top, 0), max(0, min(top + layer.shape[0], canvas.shape[0])))
    columns = slice(max(left, 0), max(0, min(left + layer.shape[1], canvas.shape[1])))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    region = canvas[rows, columns]
    part = layer[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    clear = cv2.bitwise_not(part[..., 3])
    behind = cv2.multiply(region, cv2.merge([clear] * 4), scale=1.0 / _FULL)
    region[...] = cv2.add(behind, part)


def _halvings(layer: Layer) -> tuple[Layer, ...]:
    """A layer, and what remains of it by halves, down to one pixel along its shorter side."""
    levels = [layer]
    while min(levels[-1].shape[:2]) > 1:
        height, width = levels[-1].shape[:2]
        # Odd sizes are filled up with clear pixels: an object keeps its place and size.
        even = cv2.copyMakeBorder(levels[-1], 0, height % 2, 0, width % 2, cv2.BORDER_CONSTANT)
        half = (even.shape[1] // 2, even.shape[0] // 2)
        levels.append(np.asarray(cv2.resize(even, half, interpolation=cv2.INTER_AREA)))
    for level in levels:
        level.flags.writeable = False
    return tuple(levels)


def _inside(person: Float[np.ndarray, "4"], height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of the pixels whose centres lie in the box."""
    if np.isfinite(person).all():
        x0, y0, x1, y1 = (float(value) for value in person)
        columns = slice(max(0, int(np.ceil(x0))), min(width, int(np.floor(x1)) + 1))
        rows = slice(max(0, int(np.ceil(y0))), min(height, int(np.floor(y1)) + 1))
        if rows.start < rows.stop and columns.start < columns.stop:
            return rows, columns
    return slice(0, height), slice(0, width)


def _covered(box: Layer) -> float:
    """The mean opacity of what lies over a part of a canvas."""
    return float(cv2.mean(box)[3]) / _FULL
