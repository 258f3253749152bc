"""Objects pasted in front of people, so that a network learns to look at the whole (Sárándi et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from posekit.artifacts.files import Artifact
from posekit.artifacts.schema import OCCLUDERS
from posekit.errors import ConfigError, FormatError, InputError

_MEANT_SIDE = 256.0
"""Objects are scaled for pictures of this side (px)."""

_COVERING = 0.5
"""Opacity from which a pixel counts as covered."""

_LEAST_SIDE = 2


class Occluders:
    """Cut-out objects, decoded; any thread may read them.

    `digest` is that of the artifact they come from.
    """

    def __init__(self, objects: Sequence[UInt8[np.ndarray, "h w 4"]], digest: str = "") -> None:
        if not objects:
            raise InputError("there is no object to paste", hint="Look at the file with `posekit info`")
        self.digest = digest
        # Colours times opacity: so scaled, the edges take nothing from what lies hidden beside the object.
        self._objects = [_premultiplied(rgba) for rgba in objects]

    def __len__(self) -> int:
        return len(self._objects)

    @staticmethod
    def read(path: Path) -> Occluders:
        """All objects of an artifact.

        Raises MissingFileError and ArtifactError as any artifact, InputError for one without objects, FormatError for one
        whose pictures cannot be decoded.
        """
        with Artifact(path, OCCLUDERS) as artifact:
            encoded = artifact.read_ragged("objects", "image")
            digest = artifact.digest
        objects = []
        for row, coded in enumerate(encoded):
            bgra = cv2.imdecode(coded, cv2.IMREAD_UNCHANGED) if coded.size else None
            if bgra is None or bgra.ndim != 3 or bgra.shape[2] != 4:
                raise FormatError(
                    f"object {row} of {path} cannot be decoded",
                    got=f"{coded.size} bytes",
                    accepted="PNG with opacity",
                    hint="Make the file again with `posekit preprocess voc --force`",
                )
            objects.append(cv2.cvtColor(bgra, cv2.COLOR_BGRA2RGBA))
        return Occluders(objects, digest)

    def scaled(self, index: int, factor: float) -> Float32[np.ndarray, "h w 4"]:
        """An object of another size: colours times opacity (0 to 255), and opacity (0 to 1)."""
        source = self._objects[index]
        height, width = (max(_LEAST_SIDE, round(factor * side)) for side in source.shape[:2])
        method = cv2.INTER_AREA if factor < 1.0 else cv2.INTER_LINEAR
        return cv2.resize(source, (width, height), interpolation=method)


@dataclass(frozen=True)
class Occlusion:
    """How much is pasted over a picture, with probability `p`.

    `degree`: a target from 0 to `max_degree` is drawn, and objects are pasted over the person until that share of the
    person's box is covered, or `most` are there. `count`: one to `most_count` objects anywhere in the picture, as EpipolarPose
    does. Each object is scaled by a number of `scale` for pictures of 256 px.
    """

    p: float = 0.5
    mode: Literal["degree", "count"] = "degree"
    max_degree: float = 0.7
    most: int = 8
    most_count: int = 7
    scale: tuple[float, float] = (0.2, 1.0)

    def __post_init__(self) -> None:
        if not (0.0 <= self.p <= 1.0 and 0.0 <= self.max_degree < 1.0 and self.most >= 1 and self.most_count >= 1):
            raise ConfigError(
                "occlusion cannot be drawn with these values",
                got=f"p {self.p}, degree {self.max_degree}, objects {self.most}, {self.most_count}",
                accepted="p 0 to 1, degree 0 to below 1, at least one object",
            )

    def paste(
        self,
        occluders: Occluders,
        picture: UInt8[np.ndarray, "H W 3"],
        person: Float[np.ndarray, "4"],
        generator: np.random.Generator,
    ) -> tuple[UInt8[np.ndarray, "H W 3"], float]:
        """The picture with objects, or the picture itself; and the share of the person's box (px) that they cover.

        Only `generator` decides. The given picture is not changed.
        """
        if generator.random() >= self.p:
            return picture, 0.0
        target = generator.uniform(0.0, self.max_degree)
        count = self.most if self.mode == "degree" else int(generator.integers(1, self.most_count + 1))
        result, covered = picture.copy(), np.zeros(picture.shape[:2], dtype=bool)
        box = _within(person, picture.shape[0], picture.shape[1])
        share = 0.0
        for _ in range(count):
            if self.mode == "degree" and share >= target:
                break
            self._paste_one(occluders, result, covered, box, generator)
            share = _share(covered, box)
        return result, share

    def _paste_one(
        self,
        occluders: Occluders,
        picture: UInt8[np.ndarray, "H W 3"],
        covered: Bool[np.ndarray, "H W"],
        box: tuple[int, int, int, int],
        generator: np.random.Generator,
    ) -> None:
        height, width = picture.shape[:2]
        index = int(generator.integers(len(occluders)))
        object_ = occluders.scaled(index, generator.uniform(*self.scale) * min(height, width) / _MEANT_SIDE)
        across, down = generator.random(2)
        # By degree the person is to be covered; by count anything may be.
        x0, y0, x1, y1 = box if self.mode == "degree" else (0, 0, width, height)
        left = round(x0 + across * (x1 - x0) - object_.shape[1] / 2.0)
        top = round(y0 + down * (y1 - y0) - object_.shape[0] / 2.0)
        rows = slice(max(0, top), min(height, top + object_.shape[0]))
        columns = slice(max(0, left), min(width, left + object_.shape[1]))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        part = object_[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        below = picture[rows, columns]
        blended = part[..., :3] + (1.0 - part[..., 3:]) * below
        picture[rows, columns] = np.rint(blended).astype(np.uint8)
        covered[rows, columns] |= part[..., 3] >= _COVERING


def _premultiplied(rgba: UInt8[np.ndarray, "h w 4"]) -> Float32[np.ndarray, "h w 4"]:
    opacity = rgba[..., 3:].astype(np.float32) / 255.0
    return np.concatenate([rgba[..., :3] * opacity, opacity], axis=2)


def _within(box: Float[np.ndarray, "4"], height: int, width: int) -> tuple[int, int, int, int]:
    """The pixels of a box that lie in the picture: x0, y0, x1, y1, the latter excluded."""
    x0, y0 = np.clip(np.floor(box[:2] + 0.5), 0, (width, height))
    x1, y1 = np.clip(np.ceil(box[2:] + 0.5), 0, (width, height))
    return int(x0), int(y0), int(x1), int(y1)


def _share(covered: Bool[np.ndarray, "H W"], box: tuple[int, int, int, int]) -> float:
    x0, y0, x1, y1 = box
    inside = covered[y0:y1, x0:x1]
    return float(inside.mean()) if inside.size else 1.0
